"""The cost card: every method at several budgets, its answers, its likelihoods and its price, in one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wildsight.compression.cache import KVSettings
from wildsight.compression.evaluation import questions
from wildsight.compression.evaluation.bench_plan import SAMPLES, Plan, split_calibration
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
from wildsight.compression.evaluation.timing import Setting, Timing, measure
from wildsight.compression.loading import DEFAULT, LoadedModel, load_model
from wildsight.compression.methods.cache.base import SCORERS, kv_method
from wildsight.compression.methods.visual.base import DEFAULT as SELECTOR
from wildsight.compression.methods.visual.base import FASTV
from wildsight.compression.methods.visual.fastv import effective_tokens
from wildsight.compression.profile import Profile
from wildsight.compression.prune import select_tokens
from wildsight.errors import ConfigError
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
    window: int = 8,
    positions: str = "original",
    precision: str = "fp32",
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Ask a model the same questions under every method and budget.

    Finished cells are kept under ``out/cells``, so that an interrupted bench goes on where it stopped.
    Layer sizes are found on pictures that are not asked about.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: ``nano-llava``, a local folder or a hub id.
        methods: selectors and cache methods; all of them by default, ``random`` in any case.
        seeds: for methods that draw.
        tokens: per image, counts or shares.
        shares: of the cache, in (0, 1].
        count: questions.
        repeats: timed runs of each setting; 0 leaves times out.
        window: queries in the observation window of SnapKV's kin.
        positions: of the tokens that are kept, ``compact`` (as published) or ``original``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: as torch names it.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        BudgetError: a budget out of range.
        ConfigError: an unknown method or model.
        DataError: the source does not fit its layout.
    """
    plan = Plan.of(methods, tokens, shares, seeds)
    loaded = load_model(backbone, device=device, precision=precision)
    size = loaded.image_size or questions.SIZE
    data, spare = split_calibration(source, count, size)
    base = KVSettings(window=window)
    run = _Run(loaded, data, spare, plan, out, base, positions, progress)
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
        "observation window": window,
        "profiles from": f"{SAMPLES} pictures that are not asked about",
        "visual protocol": "pictures are pruned, prompt and answer are read as usual",
        "cache protocol": "the picture is read and compressed, then question and answer come token by token",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {
        "rows": rows, "metrics": METRICS, "facts": facts, "pictures": run.pictures(), "cost": "first_token_ms"
    }  # fmt: skip


class _Run:
    """One bench: encodes the pictures once, then goes through the cells."""

    def __init__(
        self, loaded: LoadedModel, data: QuestionData, spare: QuestionData, plan: Plan, out: Path,
        base: KVSettings, positions: str, progress: bool,
    ) -> None:  # fmt: skip
        self.loaded, self.data, self.spare, self.plan, self.out = loaded, data, spare, plan, out
        self.base, self.positions, self.progress = base, positions, progress
        self.key = digest_of([VERSION, loaded.sha, dict(data.protocol), positions, base.window])[:12]
        self._batches: list[Batch] | None = None
        self._profiles: dict[str, Profile] = {}
        self._full: Answers | None = None

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
            file = self.out / "cells" / f"full-{self.key}-said.json"
            if file.is_file():
                self._full = Answers(**read_json(file))
            else:
                self._full = ask_visual(self.loaded, self.batches, 1.0, "grid")
                write_json(file, {"said": self._full.said, "losses": self._full.losses})
        return self._full

    def rows(self) -> list[dict[str, Any]]:
        """One row per cell."""
        cells = [*self._visual_cells(), *self._cache_cells()]
        rows = []
        with Meter("bench", len(cells), enabled=self.progress) as meter:
            for method, group, seed, budget, visual in cells:
                row = self._cell(method, group, seed, budget, visual)
                rows.append(row | {"layer_tokens": self.layer_tokens(method, budget) if visual else None})
                meter.add(1)
        return rows

    def layer_tokens(self, method: str, count: int) -> float:
        """Tokens of a picture that a layer of the language model reads, the mean over layers."""
        total = self.count(1.0)
        if method == FASTV:
            return effective_tokens(total, count, Shape.of(self.loaded.model.config).layers)
        return float(total if method == "full" else count)

    def _visual_cells(self) -> list[tuple[str, str, int, Any, bool]]:
        if not self.plan.visual:
            return []
        return [
            (method, f"{self.count(keep)} tokens", seed, self.count(keep), True)
            for keep in self.plan.tokens
            for method in ("full", *self.plan.visual)
            for seed in self.plan.seeds_of(method)
        ]

    def _cache_cells(self) -> list[tuple[str, str, int, Any, bool]]:
        if not self.plan.cache:
            return []
        return [
            (method, f"cache {share:g}", seed, share, False)
            for share in self.plan.shares
            for method in ("full", *self.plan.cache)
            for seed in self.plan.seeds_of(method)
        ]

    def _cell(self, method: str, group: str, seed: int, budget: Any, visual: bool) -> dict[str, Any]:
        name = f"{method}-{group}-seed{seed}-{self.key}".replace("/", "+").replace(" ", "-")
        file = self.out / "cells" / f"{name}.json"
        if file.is_file():
            return read_json(file)
        if method == "full":
            answers = self.full()
        elif visual:
            answers = ask_visual(
                self.loaded, self.batches, budget, method, positions=self.positions, seed=seed
            )
        else:
            answers = ask_cache(self.loaded, self.batches, self.settings(method, budget), seed=seed)
        row = {"method": method, "seed": seed, "group": group, **self.scores(answers)}
        write_json(file, row)
        return row

    def settings(self, method: str, share: float) -> KVSettings:
        """The cache of a method."""
        if method.startswith("sensitivity/"):
            scorer = method.partition("/")[2]
            if scorer not in SCORERS:
                raise ConfigError(f"no key scorer is called {scorer!r}", hint=f"use {', '.join(SCORERS)}")
            profile = self.profile("sensitivity", scorer)
            return replace(self.base, keep=share, sizes="prefix", scorer=scorer, profile=profile)
        if method == "prefixkv-online":
            return replace(self.base, keep=share)
        sizes, scorer = kv_method(method)
        own = self.profile("prefix", "attention") if sizes == "prefix" else None
        return replace(self.base, keep=share, sizes=sizes, scorer=scorer, profile=own)

    def profile(self, how: str, scorer: str) -> Profile:
        """Layer sizes from the spare pictures, found once."""
        name = f"{how}-{scorer}"
        if name not in self._profiles:
            file = self.out / "profiles" / f"{name}-{self.key}.json"
            if not file.is_file():
                data = first_questions(self.spare, SAMPLES)
                base = replace(self.base, scorer=scorer)
                profile_from(self.loaded, data, how=how, base=base, progress=self.progress).save(file)
            self._profiles[name] = Profile.load(file)
        return self._profiles[name]

    def scores(self, answers: Answers) -> dict[str, Any]:
        """Accuracy with its interval, by kind, likelihood, and agreement with the full model."""
        said = [self.loaded.text(ids) for ids in answers.said]
        samples = self.data.samples
        asked = [i for i, q in enumerate(samples) if q.kind != questions.CAPTION]
        told = [i for i, q in enumerate(samples) if q.kind == questions.CAPTION]
        points = [answer_score(said[i], samples[i].answers) for i in asked]
        low, high = bootstrap_interval(points, [samples[i].picture for i in asked])
        kinds: dict[str, list[float]] = {}
        for i, point in zip(asked, points, strict=True):
            kinds.setdefault(samples[i].kind, []).append(point)
        same = [rouge_l(a, b) for a, b in zip(answers.said, self.full().said, strict=True)]
        f1 = f1_of_yes([said[i] for i in asked], [samples[i].answers[0] for i in asked])
        return {
            "accuracy": sum(points) / len(points),
            "accuracy_low": low,
            "accuracy_high": high,
            "perplexity": perplexity([x for i in asked for x in answers.losses[i]]),
            "caption_perplexity": perplexity([x for i in told for x in answers.losses[i]]) if told else None,
            "agreement": sum(same) / len(same),
            "f1": None if math.isnan(f1) else f1,
            **{f"accuracy: {kind}": sum(v) / len(v) for kind, v in sorted(kinds.items())},
        }

    def add_times(self, rows: list[dict[str, Any]], repeats: int) -> None:
        """Time every method and budget on one prompt, and add what it costs to its first seed's row."""
        sample = self.data.samples[0]
        inputs = self.loaded.inputs([sample.load()], [sample.question])
        timed = [r for r in rows if r["seed"] == 0 and r["method"] != "full"]
        settings = [Setting("grid", 1.0), *(self._setting(r) for r in timed)]
        total = len(settings) * (repeats + 1)
        with Meter("time", total, enabled=self.progress) as meter:
            base, *own = measure(self.loaded.model, inputs, settings, repeats=repeats, advance=meter.add)
        for row in (r for r in rows if r["method"] == "full"):
            row.update(self._price(row, settings[0], base, base))
        for row, setting, timing in zip(timed, settings[1:], own, strict=True):
            row.update(self._price(row, setting, timing, base))

    def _setting(self, row: dict[str, Any]) -> Setting:
        method, (word, number) = row["method"], _budget(row["group"])
        if word == "tokens":
            return Setting(method, int(number))
        return Setting("grid", 1.0, self.settings(method, number))

    def _price(self, row: dict[str, Any], setting: Setting, own: Timing, base: Timing) -> dict[str, Any]:
        shape = Shape.of(self.loaded.model.config)
        size = torch.finfo(self.loaded.model.dtype).bits // 8
        visual = row["group"].endswith("tokens")
        part = "first_token_ms" if visual else "token_ms"
        if visual:
            limit = prefill_limit(shape, base.prompt, own.prompt, vision_flops(self.loaded.model.config))
        else:
            share = 1.0 if setting.kv is None else float(setting.kv.keep)
            limit = decode_limit(shape, 1, base.prompt, share, size)
        return {
            **{name: own.median(name) for name in ("first_token_ms", "token_ms", "selection_ms")},
            "speedup": base.median(part) / own.median(part),
            "limit": limit if setting.method != FASTV else None,
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
            for method in (SELECTOR, "vtc-cls", "divprune", "random"):
                chosen = select_tokens(picture, keep, method, 0, fixed=True)
                if picture.grid is not None:
                    image = kept_patches(batch.samples[row].load(), picture.grid, chosen.keep.tolist())
                    shown.append((image, f"{method}: {keep} tokens"))
        return shown


def _budget(group: str) -> tuple[str, float]:
    """``36 tokens`` or ``cache 0.3`` as its word and its number."""
    one, two = group.split(" ")
    return ("tokens", float(one)) if two == "tokens" else (one, float(two))
