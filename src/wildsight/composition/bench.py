"""HDA-OE and its peers on one source: the same cached features, the same budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wildsight.backbones import Backbone, load_backbone
from wildsight.composition.data import PairData, read_source
from wildsight.composition.features import Templates, TextSide
from wildsight.composition.methods import ABLATIONS, METHODS, named, train_settings
from wildsight.composition.recognizer import CompositionRecognizer
from wildsight.composition.reports import cases
from wildsight.files import digest_of, read_json, write_json

METRICS = (
    "auc",
    "hm",
    "best_seen",
    "best_unseen",
    "hm_calibrated",
    "top1",
    "attribute",
    "object",
    "field_auc",
)
WITH_ABLATIONS = "ablations"


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = "nano-clip",
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    epochs: int | None = None,
    image_size: int = 0,
    precision: str = "fp32",
    open_world: bool = True,
    calibrate: bool = True,
    hyper: dict[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and evaluate every method with every seed.

    Finished cells are kept under ``out/cells``, so that an interrupted bench goes on where it stopped.
    Methods that need a text tower are left out, and named as such, where the backbone has none.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: hub id, local folder or ``nano-*``.
        methods: names from `METHODS` and `ABLATIONS`; ``ablations`` stands for all of the latter.
        seeds: number of seeds, counted from 0.
        epochs: of every trained method; None takes the task's recipe.
        image_size: side of the input square, pixels; 0 takes the backbone's own.
        precision: ``fp32`` or ``bf16``.
        open_world: also score every attribute with every object.
        calibrate: set bias and limit; without it a fit is shorter, and the metrics of one bias have b = 0.
        hyper: hyper-parameters given to HDA-OE and its ablations on top of their own.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        ConfigError: unknown method or backbone.
        DataError: the source does not fit its layout.
    """
    names = list(dict.fromkeys(n for m in methods for n in (ABLATIONS if m == WITH_ABLATIONS else [m])))
    for name in names:
        named(name)
    data, network = read_source(source), load_backbone(backbone)
    text = network.has_text and TextSide(network, Templates()).tells_apart(data.attributes, data.objects)
    absent = [n for n in names if METHODS[named(n)[0]].needs_text and not text]
    usual = train_settings(text)
    recipe = replace(usual, precision=precision, epochs=epochs or usual.epochs)
    training = {"epochs": recipe.epochs, "precision": precision}
    plan = _Plan(data, network, image_size, training, open_world, calibrate, out, progress)
    rows: list[dict[str, Any]] = []
    pictures: list[Any] = []
    for seed in range(seeds):
        for name in [n for n in names if n not in absent]:
            own = hyper if named(name)[0] == "hdaoe" else None
            cell, shown = _cell(plan, name, seed, own or {})
            rows += cell
            pictures += shown
    facts = {
        "source": source,
        "backbone": network.name,
        "backbone SHA-256": network.sha,
        "text tower that knows the words": text,
        "left out, for want of a text tower that knows the words": ", ".join(absent) or "none",
        "recipe of trained methods": vars(recipe),
        "hyper-parameters of HDA-OE on top": hyper or "none",
        "seeds": seeds,
        "selection": "last epoch; the bias from validation or held-out pairs; nothing on test pictures",
        "score scale": "sums of cosines (hdaoe, compcos, csp, zeroshot), log-probabilities (product)",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


@dataclass(frozen=True)
class _Plan:
    """What all cells of a bench share; the meanings are those of `bench`."""

    data: PairData
    network: Backbone
    image_size: int
    training: dict[str, Any]
    open_world: bool
    calibrate: bool
    out: Path
    progress: bool

    def file(self, name: str, seed: int, hyper: dict[str, Any]) -> Path:
        """Where a finished cell is kept."""
        own = [self.network.sha, dict(self.data.protocol), hyper, self.image_size]
        key = digest_of([*own, self.training, self.open_world, self.calibrate])
        return self.out / "cells" / f"{name}-seed{seed}-{key[:12]}.json"


def _cell(plan: _Plan, name: str, seed: int, hyper: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """One method with one seed, from the folder of finished cells where it is there."""
    file = plan.file(name, seed, hyper)
    if file.is_file():
        return read_json(file), []
    options = {"image_size": plan.image_size, "calibrate": plan.calibrate, "seed": seed}
    model = CompositionRecognizer(name, plan.network, hyper=hyper, **options)
    begin = time.perf_counter()
    model.fit(plan.data, progress=plan.progress, **plan.training)
    fitted = time.perf_counter()
    evaluation = model.evaluate(plan.data, open_world=plan.open_world)
    times = {"fit_seconds": fitted - begin, "evaluate_seconds": time.perf_counter() - fitted}
    rows = [
        {"method": name, "seed": seed, "group": row["world"], **_figures(row), **times}
        for row in evaluation.rows
    ]
    write_json(file, rows)
    return rows, cases(evaluation) if seed == 0 and name == "hdaoe" else []


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != "world"}
