"""Find settings for a model on its owner's own questions: as fast as asked for, with the least loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from wildsight.backbones.vlm import LoadedModel
from wildsight.compression import defaults
from wildsight.compression.cache import KVSettings
from wildsight.compression.config import CompressionConfig, split_options
from wildsight.compression.evaluation.evaluate import Batch, ask_cache, prepare
from wildsight.compression.evaluation.metrics import answer_score, bootstrap_interval
from wildsight.compression.evaluation.questions import QuestionData
from wildsight.compression.evaluation.timing import Timing, measure
from wildsight.compression.families import check_saliency
from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.visual.base import SELECTORS, VisualMethod
from wildsight.errors import BudgetError, ConfigError, DataError
from wildsight.files import read_json, write_json
from wildsight.keep import n_keep
from wildsight.training.progress import Meter

FORMAT = 1
TOKENS = (1.0, 0.75, 0.5, 0.25, 0.125)
SHARES = (1.0, 0.5, 0.3, 0.2)


@dataclass(frozen=True)
class TunedOptions:
    """What `plan` found, as a file for `compress`.

    Attributes:
        model: name and ``sha`` of the model it was found on.
        visual_tokens: tokens per image; None keeps all.
        kv_cache: share of the cache; None keeps all.
        visual, visual_options: selector, and its parameters.
        kv, kv_options: cache method, and its parameters.
        measured: gain, accuracy, its drop and the drop's interval, samples.
        positions: of the tokens that are kept, ``compact`` or ``original``.
    """

    model: str
    sha: str
    visual_tokens: int | None
    kv_cache: float | None
    visual: str
    kv: str
    measured: dict[str, Any] = field(default_factory=dict)
    positions: str = defaults.POSITIONS
    visual_options: dict[str, Any] = field(default_factory=dict)
    kv_options: dict[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `compress`; parameters of a half that keeps all are left out."""
        return {
            "visual_tokens": self.visual_tokens,
            "kv_cache": self.kv_cache,
            "visual": self.visual,
            "visual_options": {} if self.visual_tokens is None else dict(self.visual_options),
            "cache": self.kv,
            "cache_options": {} if self.kv_cache is None else dict(self.kv_options),
            "positions": self.positions,
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> TunedOptions:
        """Read what `save` wrote.

        Raises:
            DataError: missing, damaged or no settings file.
        """
        value = read_json(path)
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise DataError("not a settings file", where=path, hint="make one with `compression plan`")
        try:
            return cls(**value)
        except TypeError as error:
            raise DataError("a damaged settings file", where=path, hint="make it again") from error


@dataclass(frozen=True)
class Candidate:
    """One point of the search.

    Attributes:
        visual_tokens: tokens per image.
        kv_cache: share of the cache.
        gain: how many times cheaper than the full model.
        accuracy: on the samples.
        drop: accuracy lost.
        low, high: interval of the drop, pictures drawn.
        positions: of the tokens that are kept.
    """

    visual_tokens: int
    kv_cache: float
    gain: float
    accuracy: float
    drop: float
    low: float
    high: float
    positions: str = defaults.POSITIONS


def read_target(text: str) -> float:
    """``2x`` or ``2`` as a number of at least 1.

    >>> read_target("2x"), read_target("1.5")
    (2.0, 1.5)
    """
    try:
        value = float(text.lower().removesuffix("x"))
    except ValueError:
        value = 0.0
    if not value >= 1.0:
        raise ConfigError(f"target {text!r} is no gain", hint="write 2x or 1.5x")
    return value


def read_drop(text: str) -> float:
    """``1%`` or ``0.01`` as a share of at least 0.

    >>> read_drop("1%"), read_drop("0.02")
    (0.01, 0.02)
    """
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"drop {text!r} is no share", hint="write 1% or 0.01")
    return value


def gain_of(base: Timing, own: Timing, tokens: int, measure_: str) -> float:
    """How many times cheaper: time of an answer of ``tokens`` tokens, or bytes of the cache."""
    if measure_ == "memory":
        return base.cache_bytes / max(own.cache_bytes, 1)
    total = [t.median("first_token_ms") + tokens * t.median("token_ms") for t in (base, own)]
    return total[0] / total[1]


def search(
    loaded: LoadedModel,
    data: QuestionData,
    *,
    tokens: Sequence[int | float] = TOKENS,
    shares: Sequence[float] = SHARES,
    visual: str | VisualMethod = defaults.SELECTOR,
    kv: str | CacheMethod = defaults.CACHE,
    positions: str | None = None,
    measured: str = "time",
    answer_tokens: int = 16,
    repeats: int = 3,
    progress: bool = True,
) -> list[Candidate]:
    """Measure every pair of budgets; the first candidate is the full model.

    Args:
        loaded: the model.
        data: the owner's questions.
        tokens: per image, counts or shares; all of them first.
        shares: of the cache; 1.0 first.
        visual: selector, by name or with its parameters.
        kv: cache method, by name or with its parameters.
        positions: ``compact`` or ``original``; None takes what answers better with the whole cache.
        measured: ``time`` of an answer, or ``memory`` of the cache.
        answer_tokens: length of the answer that is timed.
        repeats: timed runs of each.
        progress: show progress and the time left.

    Raises:
        ConfigError: an unknown word or method.
    """
    if measured not in ("time", "memory"):
        raise ConfigError(f"measure {measured!r} is unknown", hint="use time or memory")
    chooser, method = SELECTORS.create(visual), CACHE_METHODS.create(kv)
    batches = prepare(loaded, data.samples, 250)
    n = batches[0].pictures[0].view.features.shape[0]
    pairs = list(dict.fromkeys((n_keep(n, t), float(s)) for t, s in product(tokens, shares)))
    pairs = [(n, 1.0), *(p for p in pairs if p != (n, 1.0))]
    counts = [count for count, share in pairs if count < n and share == 1.0]
    caches = [KVSettings(share, method) for _, share in pairs]
    asker = _Asker(loaded, batches, data, chooser)
    with Meter("plan", len(pairs) * (repeats + 2), enabled=progress) as meter:
        place = positions or asker.better_positions(counts)
        points = []
        for (count, _), settings in zip(pairs, caches, strict=True):
            points.append(asker.points(settings, count, place if count < n else "compact"))
            meter.add(1)
        sample = data.samples[0]
        inputs = loaded.inputs([sample.load()], [sample.question])
        timed = [
            CompressionConfig(count, chooser, None if settings.whole else settings, place)
            for (count, _), settings in zip(pairs, caches, strict=True)
        ]
        times = measure(loaded.model, inputs, timed, tokens=answer_tokens, repeats=repeats, advance=meter.add)
    gains = [gain_of(times[0], own, answer_tokens, measured) for own in times]
    pictures = [s.picture for s in data.samples]
    return [
        _candidate(pair, gain, own, points[0], pictures, place)
        for pair, gain, own in zip(pairs, gains, points, strict=True)
    ]


class _Asker:
    """Asks the samples once under each setting."""

    def __init__(
        self, loaded: LoadedModel, batches: Sequence[Batch], data: QuestionData, visual: VisualMethod
    ) -> None:
        self.loaded, self.batches, self.data, self.visual = loaded, batches, data, visual
        self._known: dict[Any, list[float]] = {}

    def points(self, settings: KVSettings, count: int, positions: str) -> list[float]:
        """What each answer is worth."""
        key = (settings.keep, count, positions)
        if key not in self._known:
            answers = ask_cache(
                self.loaded, self.batches, settings, keep=count, method=self.visual, positions=positions
            )
            said = (self.loaded.text(ids) for ids in answers.said)
            pairs = zip(said, self.data.samples, strict=True)
            self._known[key] = [answer_score(s, q.answers) for s, q in pairs]
        return self._known[key]

    def better_positions(self, counts: Sequence[int]) -> str:
        """Positions with the better answers over all counts, the cache whole; compact ones if level."""
        whole = KVSettings(keep=1.0)
        worth = {
            place: sum(sum(self.points(whole, count, place)) for count in counts)
            for place in ("compact", "original")
        }
        return "original" if worth["original"] > worth["compact"] else "compact"


def _candidate(
    pair: tuple[int, float], gain: float, own: list[float], full: list[float], pictures: list[str], place: str
) -> Candidate:
    lost = [f - o for f, o in zip(full, own, strict=True)]
    low, high = bootstrap_interval(lost, pictures)
    return Candidate(pair[0], pair[1], gain, sum(own) / len(own), sum(lost) / len(lost), low, high, place)


def choose(candidates: Sequence[Candidate], target: float, max_drop: float) -> Candidate:
    """The least loss among those that reach the target within the drop; of equal loss, the cheaper one.

    Raises:
        BudgetError: none does; the message says how far it goes.
    """
    good = [c for c in candidates if c.gain >= target and c.drop <= max_drop]
    if good:
        return min(good, key=lambda c: (c.drop, -c.gain))
    within = max((c for c in candidates if c.drop <= max_drop), key=lambda c: c.gain)
    raise BudgetError(
        f"no setting is {target:g}x cheaper within a drop of {max_drop:.1%}: at most {within.gain:.2f}x",
        hint="ask for less, or allow a larger drop",
    )


def plan(
    loaded: LoadedModel,
    data: QuestionData,
    target: float,
    max_drop: float,
    *,
    visual: str = defaults.SELECTOR,
    kv: str = defaults.CACHE,
    parameters: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[TunedOptions, list[Candidate]]:
    """Search, choose, and say what was measured.

    Args:
        loaded: the model.
        data: the owner's questions.
        target: how many times cheaper.
        max_drop: accuracy that may be lost, a share.
        visual: selector's name.
        kv: cache method's name.
        parameters: of either, by name.
        options: further arguments of `search`.

    Raises:
        BudgetError: the target cannot be reached within the drop.
    """
    visual_options, kv_options = split_options(visual, kv, parameters or {})
    chooser, method = SELECTORS.create(visual, visual_options), CACHE_METHODS.create(kv, kv_options)
    check_saliency(loaded.model, chooser.saliency_layers)
    candidates = search(loaded, data, visual=chooser, kv=method, **options)
    best = choose(candidates, target, max_drop)
    n = candidates[0].visual_tokens
    measured = asdict(best) | {
        "target": target,
        "max_drop": max_drop,
        "samples": len(data.samples),
        "chosen_on": "these samples: test the choice on others",
    }
    settings = TunedOptions(
        loaded.name,
        loaded.sha,
        best.visual_tokens if best.visual_tokens < n else None,
        best.kv_cache if best.kv_cache < 1.0 else None,
        visual,
        kv,
        measured,
        best.positions,
        visual_options,
        kv_options,
    )
    return settings, candidates
