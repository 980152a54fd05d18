"""RAS and its peers on one source: the same features, the same budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.anomaly.data import AnomalyData, AnomalySample, read_mask, read_source
from wildsight.anomaly.detector import AnomalyDetector, Evaluation
from wildsight.anomaly.features import NeckConfig
from wildsight.anomaly.methods import METHODS
from wildsight.anomaly.select import SELECTIONS
from wildsight.anomaly.variants import Variant, variant
from wildsight.backbones import Backbone, load_backbone
from wildsight.errors import WildSightError
from wildsight.files import atomic_folder, digest_of, read_json, write_json
from wildsight.images import load_image

METRICS = ("image_auroc", "pixel_auroc", "aupro", "image_ap", "pixel_ap", "pixel_f1max")
DEFAULT = ("ras", "uniad", "patchcore", "padim")
EPOCHS = 30

CAPTIONS = "captions.json"


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = "nano-conv",
    methods: Sequence[str] = DEFAULT,
    categories: Sequence[str] | None = None,
    seeds: int = 3,
    epochs: int = EPOCHS,
    image_size: int = 224,
    precision: str = "bf16",
    hyper: Mapping[str, Any] | None = None,
    finished: bool = False,
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
        methods: names from `METHODS`, also as ``uniad@7e-4`` (another learning rate) or
            ``ras[gate=false]`` (another hyper-parameter).
        categories: only these; None for all.
        seeds: number of seeds, counted from 0.
        epochs: passes over the good training pictures for every trained method.
        image_size: side of the square that pictures are resized to, pixels.
        precision: ``fp32`` or ``bf16``, of the trained methods.
        hyper: hyper-parameters of every trained method that differ from its own, such as ``{"d": 128}``.
        finished: run nothing; tell what the finished cells in ``out`` say, and which are missing.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures.

    Raises:
        ConfigError: unknown method or backbone.
        DataError: the source does not fit its layout.
    """
    variants = [variant(name).with_hyper(hyper or {}) for name in methods]
    data, network = read_source(source).select(categories), load_backbone(backbone)
    settings = {"neck": NeckConfig(image_size=image_size), "epochs": epochs, "precision": precision}
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[Image, str]] = []
    missing: list[str] = []
    for seed in range(seeds):
        for chosen in variants:
            file = _file_of(data, network, chosen, seed, settings, out)
            if not file.is_file():
                if finished:
                    missing.append(f"{chosen.name} seed {seed}")
                    continue
                _run(data, network, chosen, seed, settings, file, progress)
            rows += read_json(file)
            pictures += _pictures_of(file.with_suffix(""))
    facts = {
        "source": source,
        "backbone": network.name,
        "backbone SHA-256": network.sha,
        "image size": image_size,
        "epochs (trained methods)": epochs,
        "precision": precision,
        "seeds": seeds,
        "learning rates": ", ".join(f"{v.name} {v.lr:g}" for v in variants if v.lr),
        "selection": SELECTIONS["last"],
        **({"hyper-parameters of trained methods": str(dict(hyper))} if hyper else {}),
        **({"missing": ", ".join(missing)} if missing else {}),
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


def _file_of(
    data: AnomalyData, network: Backbone, chosen: Variant, seed: int, settings: dict[str, Any], out: Path
) -> Path:
    """Where a cell is kept; its settings are in its name."""
    trained = METHODS[chosen.method].trained
    training = {"epochs": settings["epochs"], "precision": settings["precision"]} if trained else {}
    key = digest_of([network.sha, dict(data.protocol), vars(settings["neck"]), training | chosen.differs])
    return out / "cells" / f"{chosen.stem}-seed{seed}-{key[:12]}.json"


def _run(
    data: AnomalyData,
    network: Backbone,
    chosen: Variant,
    seed: int,
    settings: dict[str, Any],
    file: Path,
    progress: bool,
) -> None:
    """One method with one seed; its rows go to ``file``, its pictures beside it."""
    training: dict[str, Any] = {} if chosen.lr is None else {"lr": chosen.lr}
    if METHODS[chosen.method].trained:
        training |= {"epochs": settings["epochs"], "precision": settings["precision"]}
    neck, folder = settings["neck"], file.parents[1] / "train" / file.stem
    detector = AnomalyDetector(chosen.method, network, hyper=chosen.hyper, neck=neck, seed=seed)
    begin = time.perf_counter()
    detector.fit(data, folder=folder, progress=progress, **training)
    fitted = time.perf_counter()
    evaluation = detector.evaluate(data)
    times = {"fit_seconds": fitted - begin, "evaluate_seconds": time.perf_counter() - fitted}
    if seed == 0 and chosen.name == "ras":
        _keep_pictures(worst_and_best(evaluation, detector), file.with_suffix(""))
    rows = [dict(r) for r in evaluation.rows]
    write_json(
        file,
        [{"method": chosen.name, "seed": seed, "group": r.pop("category"), **r, **times} for r in rows],
    )


def _keep_pictures(pictures: list[tuple[Image, str]], folder: Path) -> None:
    """For the report of a bench that goes on from here."""
    with atomic_folder(folder, CAPTIONS) as temporary:
        for number, (picture, _) in enumerate(pictures):
            picture.save(temporary / f"{number:02d}.png")
        write_json(temporary / CAPTIONS, [caption for _, caption in pictures])


def _pictures_of(folder: Path) -> list[tuple[Image, str]]:
    """What `_keep_pictures` kept; nothing where it kept nothing."""
    if not folder.is_dir():
        return []
    captions = read_json(folder / CAPTIONS)
    return [(load_image(folder / f"{n:02d}.png"), caption) for n, caption in enumerate(captions)]


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
        mask = _mask(sample, evaluation.maps.shape[1:])
        heat = overlay_heatmap(load_image(sample.image), evaluation.maps[i] / max(limit[i], 1e-12), mask)
        shown.append((heat, f"{kind}: {sample.category}/{sample.defect}, {excess[i]:.2f} x the threshold"))
    return shown


def _mask(sample: AnomalySample, size: tuple[int, int]) -> np.ndarray | None:
    """A sample's mask, or None where there is none to be read."""
    try:
        return read_mask(sample, size) if sample.masks else None
    except WildSightError:
        return None
