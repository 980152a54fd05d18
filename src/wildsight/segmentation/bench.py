"""SPT and its peers on one source: the same base, masks, prompts and budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.errors import ConfigError
from wildsight.files import digest_of, read_json, write_json
from wildsight.segmentation.base import SamBase, load_base
from wildsight.segmentation.data import SegmentationData, read_source
from wildsight.segmentation.methods import METHODS
from wildsight.segmentation.prompts import PromptMix
from wildsight.segmentation.reports import worst_and_best
from wildsight.segmentation.segmenter import AnomalySegmenter

METRICS = ("iou", "boundary_iou", "draft_iou", "draft_boundary_iou")
MASKS = 64


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = "nano-sam",
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    epochs: int = 16,
    masks: int = MASKS,
    prompt: str = "box",
    train_prompt: str = "same",
    augment: str = "flip",
    points: int = 2048,
    precision: str = "fp32",
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and evaluate every method with every seed.

    Finished cells are kept under ``out/cells``, so that an interrupted bench goes on where it stopped,
    and the adapters under ``out/adapters``. Methods without training run once and stand for every seed.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: hub id, local folder or ``nano-sam``.
        methods: names from `METHODS`; ``spt@3e-3`` is SPT at that learning rate instead of its own.
        seeds: number of seeds, counted from 0.
        epochs: passes over the training masks for every trained method.
        masks: training masks, dealt over the kinds of defect.
        prompt: ``box`` or ``points``, from the true mask.
        train_prompt: ``same`` trains with the kind of prompt that is evaluated, ``mix`` with the paper's mix.
        augment: ``none``, ``flip`` or ``jitter``.
        points: points per mask in the loss.
        precision: ``fp32`` or ``bf16``, in training.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        ConfigError: unknown method or base.
        DataError: the source does not fit its layout.
    """
    for name in methods:
        method_and_rate(name)
    data, base = read_source(source), load_base(backbone)
    training = {"epochs": epochs, "precision": precision}
    settings = {"augment": augment, "points": points, "prompts": training_mix(train_prompt, prompt)}
    cell = _Cell(data, base, training, settings, masks, prompt, out, progress)
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[Image, str]] = []
    for seed in range(seeds):
        for name in methods:
            own, shown = cell.run(name, seed)
            rows += own
            pictures += shown
    facts = {
        "source": source,
        "base": base.name,
        "base SHA-256": base.backbone.sha,
        "training masks": masks,
        "seeds": seeds,
        "prompt": f"ORACLE {prompt} of the true mask",
        "selection": "last epoch; nothing is selected on test data",
        **training,
        **settings,
        "prompts": f"training with {train_prompt}: {settings['prompts']}",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


def method_and_rate(name: str) -> tuple[str, float | None]:
    """The method and the learning rate of ``name`` or ``name@rate``.

    Raises:
        ConfigError: an unknown method, or a rate that is no number.

    >>> method_and_rate("spt@3e-3"), method_and_rate("lora")
    (('spt', 0.003), ('lora', None))
    """
    method, _, rate = name.partition("@")
    if method not in METHODS:
        raise ConfigError(f"no method is called {method!r}", hint=f"use one of {', '.join(METHODS)}")
    try:
        return method, float(rate) if rate else None
    except ValueError as error:
        raise ConfigError(f"{rate!r} is no learning rate", where=name, hint="write method@3e-3") from error


def training_mix(train_prompt: str, prompt: str) -> PromptMix:
    """What training prompts with: the kind that is evaluated, or the paper's mix.

    Raises:
        ConfigError: another word.
    """
    if train_prompt == "mix":
        return PromptMix()
    if train_prompt != "same":
        raise ConfigError(f"train_prompt={train_prompt!r}", hint="use same or mix")
    return PromptMix(1.0, 0.0) if prompt == "box" else PromptMix(0.0, 1.0)


class _Cell:
    """One method with one seed at a time, from the folder of finished cells where it is there."""

    def __init__(
        self,
        data: SegmentationData,
        base: SamBase,
        training: dict[str, Any],
        settings: dict[str, Any],
        masks: int,
        prompt: str,
        out: Path,
        progress: bool,
    ) -> None:
        self.data, self.base, self.training, self.settings = data, base, training, settings
        self.masks, self.prompt, self.out, self.progress = masks, prompt, out, progress
        settled = {**settings, "prompts": asdict(settings["prompts"])}
        self.key = digest_of([base.backbone.sha, dict(data.protocol), training, settled, masks, prompt])[:12]

    def run(self, name: str, seed: int) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
        """Rows of one method and seed, and pictures where it was computed now."""
        method, rate = method_and_rate(name)
        trained, own = METHODS[method].trained, {} if rate is None else {"lr": rate}
        file = self.out / "cells" / f"{name}-seed{seed if trained else 0}-{self.key}.json"
        if file.is_file():
            return [{**row, "seed": seed} for row in read_json(file)], []
        segmenter = AnomalySegmenter(method, self.base, seed=seed, **self.settings)
        begin = time.perf_counter()
        if trained:
            state = self.out / "train" / file.stem
            training = {"masks": self.masks, "progress": self.progress, **self.training, **own}
            segmenter.fit(self.data, folder=state, **training)
            segmenter.save_pretrained(self.out / "adapters" / f"{name}-seed{seed}")
        fitted = time.perf_counter()
        found = segmenter.evaluate(self.data, prompt=self.prompt, keep=seed == 0, progress=self.progress)
        times = {"fit_seconds": fitted - begin, "evaluate_seconds": time.perf_counter() - fitted}
        rows = [
            {"method": name, "seed": seed, "group": row.pop("category"), **row, **times}
            for row in [dict(r) for r in found.rows]
        ]
        write_json(file, rows)
        return rows, worst_and_best(self.data, found, 3) if method == "spt" and seed == 0 else []
