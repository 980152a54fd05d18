"""PWRF and its peers on one source: the same features, the same budget, several sets of sensors and seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.backbones import Backbone, load_backbone
from wildsight.errors import ConfigError
from wildsight.files import digest_of, read_json, write_json
from wildsight.fusion.data import FusionData, read_source, without
from wildsight.fusion.inputs import Store
from wildsight.fusion.methods import METHODS
from wildsight.fusion.result import FusionEvaluation
from wildsight.fusion.scoring import ALL
from wildsight.fusion.segmenter import FusionSegmenter
from wildsight.results import spread

METRICS = ("miou", "macc", "acc", "miou_absent_zero", "fit_seconds")
SALIENCY_METRICS = ("s", "wf", "maxf", "maxe", "mae", "fit_seconds")
SETS = (("rgb", "depth"), ("rgb", "depth", "thermal"), ("rgb", "depth", "thermal", "event", "lidar"))


def bench(
    source: str | FusionData,
    *,
    out: Path,
    backbone: str = "nano-conv",
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    epochs: int = 30,
    image_size: int = 64,
    modalities: Sequence[Sequence[str]] | None = None,
    drop: float = 0.1,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and evaluate every method on every set of modalities with every seed.

    All methods see the same cached features, the same epochs and the same hiding of modalities while they
    train. A group is ``SET CONDITION``: each condition of the test scenes, ``missing:NAME`` and ``dead:NAME``
    for each sensor in turn, and ``drop``, how much the mean over missing sensors lies below all of them
    together. Finished cells are kept under ``out/cells``.

    Args:
        source: ``world``, a folder, ``NAME:PATH``, or data already read.
        out: the bench's folder.
        backbone: hub id, local folder or ``nano-*``; frozen.
        methods: names from `METHODS`.
        seeds: number of seeds, counted from 0.
        epochs: passes over the training scenes.
        image_size: side of the square that pictures are stretched to, pixels.
        modalities: sets of modalities; default sets of 2, 3 and 5 that the source has.
        drop: share of modalities hidden while training.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        ConfigError: unknown method or backbone.
        DataError: the source does not fit its layout, or a modality that it does not have.
    """
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"no method is called {name!r}", hint=f"use one of {', '.join(METHODS)}")
    data = source if isinstance(source, FusionData) else read_source(source)
    network = load_backbone(backbone)
    sets = modalities or [names for names in SETS if set(names) <= set(data.modalities)]
    settings = {"image_size": image_size, "drop": drop}
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[Image, str]] = []
    store = Store()
    for seed in range(seeds):
        for names in sets:
            part = data.with_modalities(list(names))
            for method in methods:
                cell, shown = _cell(part, network, method, seed, epochs, settings, store, out, progress)
                rows += cell
                pictures += shown
    facts = {
        "source": data.name if isinstance(source, FusionData) else source,
        "backbone": f"{network.name}, frozen",
        "backbone SHA-256": network.sha,
        "image size": image_size,
        "epochs": epochs,
        "share of modalities hidden in training": drop,
        "seeds": seeds,
        "single": "its modality is chosen on a fifth of the training scenes",
        "selection": "last epoch; nothing is selected on test data",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    saliency = data.found.task == "saliency"
    metrics = SALIENCY_METRICS if saliency else METRICS
    return {"rows": rows, "metrics": metrics, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


def _cell(
    data: FusionData,
    network: Backbone,
    method: str,
    seed: int,
    epochs: int,
    settings: dict[str, Any],
    store: Store,
    out: Path,
    progress: bool,
) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
    """One method, set of modalities and seed, from the folder of finished cells where it is there."""
    label = "+".join(data.modalities)
    segmenter = FusionSegmenter(method, network, seed=seed, store=store, **settings)
    own = {**asdict(segmenter.settings), "backbone": network.sha}
    hyper = asdict(segmenter.hyper_parameters(len(data.modalities)))
    key = digest_of([own, hyper, data.protocol, list(data.modalities), epochs])
    file = out / "cells" / f"{method}-{len(data.modalities)}-seed{seed}-{key[:12]}.json"
    if file.is_file():
        return read_json(file), []
    begin = time.process_time()
    segmenter.fit(data, epochs=epochs, progress=progress)
    seconds = time.process_time() - begin
    evaluation = segmenter.evaluate(data)
    rows = [dict(r) for r in evaluation.rows]
    rows += lacking(segmenter, data)
    rows.append(loss_without(rows, segmenter.headline))
    parameters = sum(p.numel() for p in segmenter.net.parameters()) if segmenter.net else 0
    cell = [
        {
            "method": method,
            "seed": seed,
            "group": f"{label} {row.pop('condition')}",
            **row,
            "fit_seconds": seconds,
            "parameters": parameters,
        }
        for row in rows
    ]
    write_json(file, cell)
    pictures = best_and_worst(segmenter, data, 2) if seed == 0 and method == "pwrf" else []
    return cell, pictures


def lacking(segmenter: FusionSegmenter, data: FusionData) -> list[dict[str, Any]]:
    """Scores over all conditions with each modality missing, and with each reading zero."""
    rows = []
    for dead in (False, True):
        for name in data.modalities:
            spoiled = without(data, name, dead)
            row = segmenter.evaluate(spoiled).rows[-1]
            rows.append({**row, "condition": f"{'dead' if dead else 'missing'}:{name}"})
    return rows


def loss_without(rows: Sequence[dict[str, Any]], headline: str) -> dict[str, Any]:
    """How far the headline falls, on average, when one modality is missing."""
    whole = next(r[headline] for r in rows if r["condition"] == ALL)
    parts = [r[headline] for r in rows if r["condition"].startswith("missing:")]
    return {"condition": "drop when one is missing", headline: whole - spread(parts)[0]}


def best_and_worst(
    segmenter: FusionSegmenter, data: FusionData, each: int = 4, evaluation: FusionEvaluation | None = None
) -> list[tuple[Image, str]]:
    """Strips of the scenes segmented best and worst; of the test scenes, or of those evaluated already."""
    evaluation = evaluation or segmenter.evaluate(data)
    order = sorted(range(len(evaluation.names)), key=lambda i: evaluation.scores[i])
    chosen = [*order[:each], *order[-each:]]
    strips = segmenter.show(data, [evaluation.names[i] for i in chosen])
    return [(s, f"{evaluation.scores[i]:.2f} {text}") for i, (s, text) in zip(chosen, strips, strict=True)]
