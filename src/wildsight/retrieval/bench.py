"""The paper's loss, its margins and its peers on one source: the same frozen features, several seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.backbones import Backbone, load_backbone
from wildsight.errors import ConfigError
from wildsight.files import digest_of, read_json, write_json
from wildsight.retrieval.data import RetrievalData, read_source
from wildsight.retrieval.methods import METHODS
from wildsight.retrieval.reports import cases
from wildsight.retrieval.retriever import EPISODES, SketchRetriever

METRICS = ("map_all", "map_200_voc", "map_200_hits", "p_100", "p_200", "recall_1", "recall_10")
EPOCHS = 10


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = "nano-clip",
    methods: Sequence[str] = tuple(METHODS),
    seeds: int = 3,
    epochs: int = EPOCHS,
    image_size: int = 224,
    bits: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and evaluate every method with every seed; finished cells are kept under ``out/cells``.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: hub id, local folder or ``nano-*``.
        methods: names from `METHODS`.
        seeds: number of seeds, counted from 0.
        epochs: passes of `EPISODES` batches for every trained method.
        image_size: side of the square that pictures are resized to, pixels.
        bits: length of binary codes, shown beside the real-valued embeddings; 0 for none.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, pictures, cost.

    Raises:
        ConfigError: unknown method or backbone.
        DataError: the source does not fit its layout.
    """
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"no method is called {name!r}", hint=f"use one of {', '.join(METHODS)}")
    data, network = read_source(source), load_backbone(backbone)
    settings = {"epochs": epochs, "image_size": image_size, "bits": bits}
    rows: list[dict[str, Any]] = []
    pictures: list[Any] = []
    for seed in range(seeds):
        for name in methods:
            found, shown = _cell(data, network, name, seed, settings, out, progress)
            rows += found
            pictures += shown
    facts = {
        "source": source,
        "backbone": network.name,
        "backbone SHA-256": network.sha,
        "image size": image_size,
        "iterations": epochs * EPISODES,
        "binary code": f"{bits} bits, ITQ on training photos, beside the real values" if bits else "none",
        "seeds": seeds,
        "selection": "last iteration; nothing is selected on test data",
        **{f"protocol: {k}": v for k, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "pictures": pictures, "cost": "fit_seconds"}


def _cell(
    data: RetrievalData,
    network: Backbone,
    name: str,
    seed: int,
    settings: dict[str, Any],
    out: Path,
    progress: bool,
) -> tuple[list[dict[str, Any]], list[Any]]:
    """One method with one seed: a row, and one more for its codes; a finished cell is read from its file."""
    key = digest_of([network.sha, dict(data.protocol), settings])
    file = out / "cells" / f"{name}-seed{seed}-{key[:12]}.json"
    if file.is_file():
        return read_json(file)["rows"], []
    size, bits = settings["image_size"], settings["bits"]
    retriever = SketchRetriever(name, network, seed=seed, image_size=size, bits=bits)
    begin = time.perf_counter()
    retriever.fit(data, folder=out / "train" / file.stem, progress=progress, epochs=settings["epochs"])
    seconds = time.perf_counter() - begin
    evaluation = retriever.evaluate(data, binary=False)
    row = {"method": name, "seed": seed, "group": "unseen", **evaluation.row, "fit_seconds": seconds}
    if data.part("validation"):
        tried = retriever.evaluate(data, split="validation", binary=False)
        row["validation_map_all"] = tried.row["map_all"]
    rows = [row]
    if bits:
        coded = retriever.evaluate(data).row
        rows.append({"method": name, "seed": seed, "group": f"unseen, {bits} bits", **coded})
    write_json(file, {"rows": rows})
    return rows, cases(evaluation, 3) if seed == 0 and name == "quadruplet" else []


def paired(
    rows: Sequence[dict[str, Any]], one: str, two: str, metric: str = "map_all"
) -> tuple[float, float]:
    """Mean difference of two methods over the seeds that both have, and its standard error."""
    by_seed = [{r["seed"]: r[metric] for r in rows if r["method"] == name} for name in (one, two)]
    gaps = np.array([by_seed[0][s] - by_seed[1][s] for s in by_seed[0] if s in by_seed[1]])
    if not len(gaps):
        raise ConfigError(f"no seed has both {one} and {two}", hint="bench both")
    return float(gaps.mean()), float(gaps.std(ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else 0.0
