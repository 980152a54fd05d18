"""SPT and its peers on one source: the same base, masks, prompts and budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.errors import ConfigError
from wildsight.files import digest_of, read_json, write_json
from wildsight.segmentation.base import SamBase, load_base
from wildsight.segmentation.datasets import SegmentationData
from wildsight.segmentation.methods import METHODS
from wildsight.segmentation.reports import worst_and_best
from wildsight.segmentation.segmenter import AnomalySegmenter
from wildsight.segmentation.source import read_source

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
    lr: float | None = None,
    augment: str = "flip",
    points: int = 4096,
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
        methods: names from `METHODS`.
        seeds: number of seeds, counted from 0.
        epochs: passes over the training masks for every trained method.
        masks: training masks, dealt over the kinds of defect.
        prompt: ``box`` or ``points``, from the true mask.
        lr: one learning rate for all, or each method's own.
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
        if name not in METHODS:
            raise ConfigError(f"no method is called {name!r}", mend=f"use one of {', '.join(METHODS)}")
    data, base = read_source(source), load_base(backbone)
    training = {"epochs": epochs, "precision": precision} | ({} if lr is None else {"lr": lr})
    cell = _Cell(data, base, training, {"augment": augment, "points": points}, masks, prompt, out, progress)
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
        "augment": augment,
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


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
        self.key = digest_of([base.backbone.sha, dict(data.protocol), training, settings, masks, prompt])[:12]

    def run(self, name: str, seed: int) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
        """Rows of one method and seed, and pictures where it was computed now."""
        trained = METHODS[name].trained
        file = self.out / "cells" / f"{name}-seed{seed if trained else 0}-{self.key}.json"
        if file.is_file():
            return [{**row, "seed": seed} for row in read_json(file)], []
        segmenter = AnomalySegmenter(name, self.base, seed=seed, **self.settings)
        begin = time.perf_counter()
        if trained:
            state = self.out / "train" / file.stem
            segmenter.fit(self.data, masks=self.masks, folder=state, progress=self.progress, **self.training)
            segmenter.save_pretrained(self.out / "adapters" / f"{name}-seed{seed}")
        fitted = time.perf_counter()
        found = segmenter.evaluate(self.data, prompt=self.prompt, keep=seed == 0, progress=self.progress)
        times = {"fit_seconds": fitted - begin, "evaluate_seconds": time.perf_counter() - fitted}
        rows = [
            {"method": name, "seed": seed, "group": row.pop("category"), **row, **times}
            for row in [dict(r) for r in found.rows]
        ]
        write_json(file, rows)
        return rows, worst_and_best(self.data, found, 3) if name == "spt" and seed == 0 else []
