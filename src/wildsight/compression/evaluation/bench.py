"""The cost card: every method at several budgets, its answers, its likelihoods and its price, in one run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wildsight.backbones.vlm import DEFAULT, LoadedModel, load_model
from wildsight.compression import defaults
from wildsight.compression.cache import KVSettings
from wildsight.compression.config import UNCOMPRESSED, CompressionConfig
from wildsight.compression.evaluation import questions
from wildsight.compression.evaluation.bench_plan import SAMPLES, Entry, Plan, split_calibration
from wildsight.compression.evaluation.cost import Shape, decode_limit, prefill_limit, vision_flops
from wildsight.compression.evaluation.evaluate import Answers, Batch, ask_cache, ask_visual, prepare
from wildsight.compression.evaluation.figures import kept_patches
from wildsight.compression.evaluation.layer_profiles import first_questions, profile_from
from wildsight.compression.evaluation.metrics import (
    answer_score,
    bootstrap_interval,
    f1_of_yes,
    perplexity,
    rouge_l,
)
from wildsight.compression.evaluation.questions import QuestionData
from wildsight.compression.evaluation.timing import Timing, measure
from wildsight.compression.methods.cache.base import CacheMethod
from wildsight.compression.methods.cache.prefixkv import with_profile
from wildsight.compression.methods.visual.base import VisualMethod
from wildsight.compression.profile import Profile
from wildsight.compression.prune import select_tokens, selector_of
from wildsight.files import digest_of, read_json, write_json
from wildsight.keep import n_keep
from wildsight.training.progress import Meter

METRICS = (
    "accuracy", "perplexity", "caption_perplexity", "agreement", "accuracy_low", "accuracy_high",
    "layer_tokens", "first_token_ms", "token_ms", "speedup", "limit", "cache_kib", "peak_mib", "selection_ms",
)  # fmt: skip
VERSION = 1
"""Of the cells: raise it when a method changes, so that cells of before are measured again."""


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = DEFAULT,
    methods: Sequence[str] | None = None,
    seeds: int = 3,
    tokens: Sequence[int | float] = (0.5, 0.25, 0.125, 0.0625),
    shares: Sequence[float] = (0.5, 0.3, 0.1),
    count: int | None = 1000,
    repeats: int = 2,
    window: int | None = None,
    positions: str = defaults.POSITIONS,
    precision: str = "fp32",
    device: str = "cpu",
    progress: bool = True,
    **parameters: Any,
) -> dict[str, Any]:
    """Ask a model the same questions under every method and budget, with the defaults of `compress`.

    Finished cells are kept under ``out/cells``, so that an interrupted bench goes on where it stopped.
    Layer sizes are found on pictures that are not asked about.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: ``nano-llava``, a local folder or a hub id.
        methods: selectors and cache methods, such as ``vtc-cls`` or ``vtc-cls[K=7]``; all of them by default,
            ``random`` in any case.
        seeds: for methods that draw.
        tokens: per image, counts or shares.
        shares: of the cache, in (0, 1].
        count: questions.
        repeats: timed runs of each setting; 0 leaves times out.
        window: queries in the observation window of every method that has one; None leaves each its own.
        positions: of the tokens that are kept, ``compact`` (as published) or ``original``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: as torch names it.
        progress: show progress and the time left.
        parameters: of the methods, such as ``K=7``: for each that has one of that name, and is not given it
            in brackets.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        BudgetError: a budget out of range.
        ConfigError: an unknown method, parameter or model.
        DataError: the source does not fit its layout.
    """
    plan = Plan.of(methods, tokens, shares, seeds, parameters, window)
    CompressionConfig(positions=positions)
    loaded = load_model(backbone, device=device, precision=precision)
    size = loaded.image_size or questions.SIZE
    data, spare = split_calibration(source, count, size)
    run = _Run(loaded, data, spare, plan, out, positions, progress)
    rows = run.rows()
    if repeats:
        run.add_times(rows, repeats)
    facts = {
        "model": loaded.name,
        "model SHA-256": loaded.sha,
        "positions": positions,
        "precision": precision,
        "seeds of methods that draw": seeds,
        "threads": torch.get_num_threads(),
        "timed runs": repeats,
        "observation window": "each method's own" if window is None else window,
        "parameters": ", ".join(f"{k}={v}" for k, v in parameters.items()) or "each method's own",
        "profiles from": f"{SAMPLES} pictures that are not asked about",
        "visual protocol": "pictures are pruned, prompt and answer are read as usual",
        "cache protocol": "the picture is read and compressed, then question and answer come token by token",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {
        "rows": rows, "metrics": METRICS, "facts": facts, "pictures": run.pictures(), "cost": "first_token_ms"
    }  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One method under one budget and seed; without an entry it is the model as it is.

    Attributes:
        entry: the method.
        group: ``36 tokens`` or ``cache 0.3``.
        seed: of methods that draw.
        tokens: tokens of a picture that stay; None in the cells of the cache.
        share: of the cache; None in the cells of visual tokens.
    """

    entry: Entry | None
    group: str
    seed: int
    tokens: int | None = None
    share: float | None = None

    @property
    def text(self) -> str:
        """The method's row."""
        return "full" if self.entry is None else self.entry.text

    @property
    def visual(self) -> VisualMethod | None:
        """Who drops visual tokens here."""
        method = None if self.entry is None else self.entry.method
        return method if isinstance(method, VisualMethod) else None


class _Run:
    """One bench: encodes the pictures once, then goes through the cells."""

    def __init__(
        self, loaded: LoadedModel, data: QuestionData, spare: QuestionData, plan: Plan, out: Path,
        positions: str, progress: bool,
    ) -> None:  # fmt: skip
        self.loaded, self.data, self.spare, self.plan, self.out = loaded, data, spare, plan, out
        self.positions, self.progress = positions, progress
        self._batches: list[Batch] | None = None
        self._profiles: dict[str, Profile] = {}
        self._full: Answers | None = None

    def key(self, *what: Any) -> str:
        """Tells one cell's file from that of another model, source or setting."""
        return digest_of(
            [VERSION, self.loaded.sha, dict(self.data.protocol), self.positions, *map(repr, what)]
        )[:12]

    @property
    def batches(self) -> list[Batch]:
        """The questions, prepared."""
        if self._batches is None:
            with Meter("encode", len(self.data.samples), enabled=self.progress) as meter:
                self._batches = prepare(self.loaded, self.data.samples, 250, meter.add)
        return self._batches

    def count(self, keep: int | float) -> int:
        """Tokens of a picture under a budget."""
        return n_keep(self.batches[0].pictures[0].view.features.shape[0], keep)

    def full(self) -> Answers:
        """What the untouched model says."""
        if self._full is None:
            file = self.out / "cells" / f"full-{self.key()}-said.json"
            if file.is_file():
                self._full = Answers(**read_json(file))
            else:
                self._full = ask_visual(self.loaded, self.batches, 1.0, "grid")
                write_json(file, {"said": self._full.said, "losses": self._full.losses})
        return self._full

    def rows(self) -> list[dict[str, Any]]:
        """One row per cell."""
        cells = list(self.cells())
        rows = []
        with Meter("bench", len(cells), enabled=self.progress) as meter:
            for cell in cells:
                rows.append(self.measured(cell) | {"layer_tokens": self.layer_tokens(cell)})
                meter.add(1)
        return rows

    def layer_tokens(self, cell: Cell) -> float | None:
        """Tokens of a picture that a layer of the language model reads, the mean over layers."""
        if cell.tokens is None:
            return None
        total = self.count(1.0)
        if cell.visual is None:
            return float(total)
        return cell.visual.layer_tokens(total, cell.tokens, Shape.of(self.loaded.model.config).layers)

    def cells(self) -> Iterator[Cell]:
        """All cells in the order of the rows."""
        for keep in self.plan.tokens if self.plan.visual else ():
            for entry in (None, *self.plan.visual):
                for seed in self.plan.seeds_of(entry):
                    count = self.count(keep)
                    yield Cell(entry, f"{count} tokens", seed, tokens=count)
        for share in self.plan.shares if self.plan.cache else ():
            for entry in (None, *self.plan.cache):
                for seed in self.plan.seeds_of(entry):
                    yield Cell(entry, f"cache {share:g}", seed, share=share)

    def measured(self, cell: Cell) -> dict[str, Any]:
        """A cell's row, kept as a file."""
        key = self.key(None if cell.entry is None else cell.entry.method)
        name = re.sub(r"[^\w.+=-]+", "-", f"{cell.text}-{cell.group}-seed{cell.seed}-{key}".replace("/", "+"))
        file = self.out / "cells" / f"{name}.json"
        if file.is_file():
            return read_json(file)
        row = {"method": cell.text, "seed": cell.seed, "group": cell.group, **self.scores(self.asked(cell))}
        write_json(file, row)
        return row

    def asked(self, cell: Cell) -> Answers:
        """What the model says in a cell."""
        if cell.entry is None:
            return self.full()
        config = self.config(cell)
        if config.cache is not None:
            return ask_cache(self.loaded, self.batches, config.cache, seed=cell.seed)
        keep = 1.0 if config.visual_tokens is None else config.visual_tokens
        return ask_visual(
            self.loaded, self.batches, keep, config.visual, positions=config.positions, seed=cell.seed
        )

    def config(self, cell: Cell) -> CompressionConfig:
        """What is compressed in a cell."""
        method = None if cell.entry is None else cell.entry.method
        if isinstance(method, VisualMethod):
            return CompressionConfig(cell.tokens, method, None, self.positions, cell.seed)
        if cell.entry is None or method is None or cell.share is None:
            return UNCOMPRESSED
        if cell.entry.sizes:
            method = with_profile(method, self.profile(cell.entry.sizes, method))
        return replace(UNCOMPRESSED, cache=KVSettings(cell.share, method, seed=cell.seed))

    def profile(self, how: str, method: CacheMethod) -> Profile:
        """Layer sizes from the spare pictures, found once; those by attention serve every method."""
        name = f"{how}-{self.key(how, method if how == 'sensitivity' else None)}"
        if name not in self._profiles:
            file = self.out / "profiles" / f"{name}.json"
            if not file.is_file():
                data = first_questions(self.spare, SAMPLES)
                base = KVSettings(1.0, method)
                profile_from(self.loaded, data, how=how, base=base, progress=self.progress).save(file)
            self._profiles[name] = Profile.load(file)
        return self._profiles[name]

    def scores(self, answers: Answers) -> dict[str, Any]:
        """Accuracy with its interval, by kind, likelihood, and agreement with the full model."""
        said = [self.loaded.text(ids) for ids in answers.said]
        samples = self.data.samples
        asked = [i for i, q in enumerate(samples) if q.kind != questions.CAPTION]
        captions = [i for i, q in enumerate(samples) if q.kind == questions.CAPTION]
        points = [answer_score(said[i], samples[i].answers) for i in asked]
        low, high = bootstrap_interval(points, [samples[i].picture for i in asked])
        kinds: dict[str, list[float]] = {}
        for i, point in zip(asked, points, strict=True):
            kinds.setdefault(samples[i].kind, []).append(point)
        likely = [x for i in captions for x in answers.losses[i]]
        same = [rouge_l(a, b) for a, b in zip(answers.said, self.full().said, strict=True)]
        f1 = f1_of_yes([said[i] for i in asked], [samples[i].answers[0] for i in asked])
        return {
            "accuracy": sum(points) / len(points),
            "accuracy_low": low,
            "accuracy_high": high,
            "perplexity": perplexity([x for i in asked for x in answers.losses[i]]),
            "caption_perplexity": perplexity(likely) if captions else None,
            "agreement": sum(same) / len(same),
            "f1": None if math.isnan(f1) else f1,
            **{f"accuracy: {kind}": sum(v) / len(v) for kind, v in sorted(kinds.items())},
        }

    def add_times(self, rows: list[dict[str, Any]], repeats: int) -> None:
        """Time every method and budget on one prompt, and add what it costs to its first seed's row."""
        sample = self.data.samples[0]
        inputs = self.loaded.inputs([sample.load()], [sample.question])
        pairs = list(zip(self.cells(), rows, strict=True))
        timed = [(c, r) for c, r in pairs if c.seed == 0 and c.entry is not None]
        configs = [UNCOMPRESSED, *(self.config(c) for c, _ in timed)]
        total = len(configs) * (repeats + 1)
        with Meter("time", total, enabled=self.progress) as meter:
            base, *measured = measure(self.loaded.model, inputs, configs, repeats=repeats, advance=meter.add)
        for cell, row in pairs:
            if cell.entry is None:
                row.update(self._price(cell, UNCOMPRESSED, base, base))
        for (cell, row), config, timing in zip(timed, configs[1:], measured, strict=True):
            row.update(self._price(cell, config, timing, base))

    def _price(self, cell: Cell, config: CompressionConfig, own: Timing, base: Timing) -> dict[str, Any]:
        shape = Shape.of(self.loaded.model.config)
        size = torch.finfo(self.loaded.model.dtype).bits // 8
        part = "token_ms" if cell.tokens is None else "first_token_ms"
        if cell.tokens is not None:
            limit = prefill_limit(shape, base.prompt, own.prompt, vision_flops(self.loaded.model.config))
        else:
            share = 1.0 if config.cache is None else float(config.cache.keep)
            limit = decode_limit(shape, 1, base.prompt, share, size)
        return {
            **{name: own.median(name) for name in ("first_token_ms", "token_ms", "selection_ms")},
            "speedup": base.median(part) / own.median(part),
            "limit": limit if config.selects else None,
            "cache_kib": own.cache_bytes / 1024,
            "peak_mib": None if own.peak_bytes is None else own.peak_bytes / 2**20,
        }

    def pictures(self) -> list[tuple[Any, str]]:
        """What some selectors keep of the first pictures."""
        shown = []
        batch = self.batches[0]
        keep = self.count(self.plan.tokens[min(1, len(self.plan.tokens) - 1)])
        names = list(dict.fromkeys(s.picture for s in batch.samples))[:3]
        for name in names:
            row = [s.picture for s in batch.samples].index(name)
            picture = batch.pictures[row]
            for method in (defaults.SELECTOR, "vtc-cls", "divprune", "random"):
                chosen = select_tokens(picture, keep, selector_of(method), 0, fixed=True)
                if picture.grid is not None:
                    image = kept_patches(batch.samples[row].load(), picture.grid, chosen.keep.tolist())
                    shown.append((image, f"{method}: {keep} tokens"))
        return shown
