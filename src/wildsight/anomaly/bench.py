"""RAS and its peers on one source: the same features, the same budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.anomaly.datasets import AnomalyData, read_mask
from wildsight.anomaly.detector import AnomalyDetector, Evaluation
from wildsight.anomaly.features import NeckConfig
from wildsight.anomaly.methods import METHODS, train_settings
from wildsight.anomaly.source import read_source
from wildsight.backbones import load_backbone
from wildsight.errors import ConfigError
from wildsight.files import digest_of, read_json, write_json
from wildsight.images import load_image

METRICS = ("image_auroc", "pixel_auroc", "aupro", "image_ap", "pixel_ap", "pixel_f1max")
EPOCHS = 30


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = "nano-conv",
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    epochs: int = EPOCHS,
    image_size: int = 224,
    precision: str = "bf16",
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and evaluate every method with every seed.

    All methods see the same cached features (the neighbourhood mean of RAS's neck included) and the
    trained ones the same number of epochs. Finished cells are kept under ``out/cells``, so that an
    interrupted bench goes on where it stopped.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: hub id, local folder or ``nano-*``.
        methods: names from `METHODS`; ``uniad@7e-4`` is UniAD at that learning rate instead of its own.
        seeds: number of seeds, counted from 0.
        epochs: passes over the good training pictures for every trained method.
        image_size: side of the square that pictures are resized to, pixels.
        precision: ``fp32`` or ``bf16``, of the trained methods.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures.

    Raises:
        ConfigError: unknown method or backbone.
        DataError: the source does not fit its layout.
    """
    for name in methods:
        method_and_rate(name)
    data, network = read_source(source), load_backbone(backbone)
    settings = {"neck": NeckConfig(image_size=image_size), "epochs": epochs, "precision": precision}
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[Image, str]] = []
    for seed in range(seeds):
        for name in methods:
            cell, shown = _cell(data, network, name, seed, settings, out, progress)
            rows += cell
            pictures += shown
    facts = {
        "source": source,
        "backbone": network.name,
        "backbone SHA-256": network.sha,
        "image size": image_size,
        "epochs (trained methods)": epochs,
        "precision": precision,
        "seeds": seeds,
        "learning rates": ", ".join(f"{n} {_rate(n):g}" for n in methods if _rate(n)),
        "selection": "last epoch; nothing is selected on test data",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


def method_and_rate(name: str) -> tuple[str, float | None]:
    """``ras`` or ``ras@1e-3`` -> (method, learning rate or None for the method's own).

    >>> method_and_rate("uniad@7e-4")
    ('uniad', 0.0007)

    Raises:
        ConfigError: no such method, not a rate, or a rate for a method that is not trained.
    """
    method, at, text = name.partition("@")
    if method not in METHODS:
        raise ConfigError(f"no method is called {method!r}", mend=f"use one of {', '.join(METHODS)}")
    if not at:
        return method, None
    if not METHODS[method].trained:
        raise ConfigError(f"{method} is not trained by gradient", where=name, mend=f"write {method}")
    try:
        return method, float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no learning rate", where=name, mend="e.g. uniad@7e-4") from error


def _rate(name: str) -> float | None:
    """Learning rate of a trained method, else None."""
    method, rate = method_and_rate(name)
    return (rate or train_settings(method).lr) if METHODS[method].trained else None


def _cell(
    data: AnomalyData, network: Any, name: str, seed: int, settings: dict[str, Any], out: Path, progress: bool
) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
    """One method with one seed, from the folder of finished cells where it is there."""
    neck: NeckConfig = settings["neck"]
    method, rate = method_and_rate(name)
    training = {"epochs": settings["epochs"], "precision": settings["precision"]}
    training |= {} if rate is None else {"lr": rate}
    own = training if METHODS[method].trained else {}
    key = digest_of([network.sha, dict(data.protocol), vars(neck), own])
    file = out / "cells" / f"{name}-seed{seed}-{key[:12]}.json"
    if file.is_file():
        return read_json(file), []
    detector = AnomalyDetector(method, network, neck=neck, seed=seed)
    begin = time.perf_counter()
    detector.fit(data, folder=out / "train" / file.stem, progress=progress, **training)
    fitted = time.perf_counter()
    evaluation = detector.evaluate(data)
    times = {"fit_seconds": fitted - begin, "evaluate_seconds": time.perf_counter() - fitted}
    rows = [
        {"method": name, "seed": seed, "group": row.pop("category"), **row, **times}
        for row in [dict(r) for r in evaluation.rows]
    ]
    write_json(file, rows)
    return rows, worst_and_best(evaluation, detector) if seed == 0 and name == "ras" else []


def worst_and_best(
    evaluation: Evaluation, detector: AnomalyDetector, each: int = 4
) -> list[tuple[Image, str]]:
    """Heat maps of the defects found best, the defects missed most, and the worst false alarms."""
    from wildsight.report.plots import overlay_heatmap

    labels = np.array([s.label for s in evaluation.samples])
    limit = np.array([detector.threshold(s.category).value for s in evaluation.samples])
    excess = evaluation.scores / np.maximum(limit, 1e-12)
    bad, good = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    chosen = [
        *(("found", i) for i in bad[np.argsort(-excess[bad])[:each]]),
        *(("missed most", i) for i in bad[np.argsort(excess[bad])[:each]]),
        *(("highest good", i) for i in good[np.argsort(-excess[good])[:each]]),
    ]
    shown = []
    for kind, i in chosen:
        sample = evaluation.samples[i]
        mask = read_mask(sample, evaluation.maps.shape[1:]) if sample.masks else None
        heat = overlay_heatmap(load_image(sample.image), evaluation.maps[i] / max(limit[i], 1e-12), mask)
        shown.append((heat, f"{kind}: {sample.category}/{sample.defect}, {excess[i]:.2f} x the threshold"))
    return shown
