"""NN-GCD and its peers on one source: the same frozen features and views, the same budget, several seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.backbones import Backbone, load_backbone
from wildsight.discovery.data import CategoryData, read_source
from wildsight.discovery.discoverer import CategoryDiscoverer
from wildsight.discovery.features import ViewConfig
from wildsight.discovery.methods import METHODS, hyper_of
from wildsight.discovery.simgcd import ABLATION
from wildsight.discovery.snmf import class_consistency, diagnostics
from wildsight.discovery.space import SpaceConfig
from wildsight.errors import ConfigError
from wildsight.files import digest_of, read_json, write_json

METRICS = ("all", "old", "new", "fixed_all", "sure_fixed_all", "fit_seconds")
RAW = "sskmeans-raw"
PRESET = "nngcd-"
SHORT: dict[str, Any] = {"hidden": 512, "out": 128}
"""The projector of short benches: a quarter of the recipe's width."""


def bench(
    source: str,
    *,
    out: Path,
    backbone: str = "nano-conv",
    methods: Sequence[str] = (*METHODS, RAW),
    seeds: int = 3,
    epochs: int = 30,
    image_size: int = 96,
    views: int = 3,
    k: str = "true",
    classes: int | None = None,
    per_class: int | None = None,
    ablation: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and score every method with every seed.

    Trained methods share the cached tokens, the recipe and the number of epochs; the last epoch counts.
    Finished cells are kept under ``out/cells``, so that an interrupted bench goes on where it stopped.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder.
        backbone: hub id, local folder or ``nano-*``.
        methods: names from `METHODS`, ``sskmeans-raw`` (features as published), ``nngcd-`` and a preset such
            as ``nngcd-text`` or ``nngcd-released:cub`` (projector and epochs stay the bench's), or rungs of
            the ablation.
        seeds: number of seeds, counted from 0.
        epochs: of the trained methods.
        image_size: side of the square that pictures are resized to, pixels.
        views: random views per picture.
        k: ``true`` gives the number of classes, as the field does; ``auto`` estimates it.
        classes, per_class: cut the set down to so many, half of the classes new.
        ablation: run the rungs from SimGCD to NN-GCD and the switches beside them, too.
        progress: show progress and the time left.

    Returns:
        Fields of the bench result: rows, metrics, facts, cost.

    Raises:
        ConfigError: an unknown method.
        DataError: the source does not fit its layout, or has no true classes.
    """
    data, network = read_source(source).limited(classes, per_class), load_backbone(backbone)
    runs = _runs([*methods, *(ABLATION if ablation else ())])
    options = {"epochs": epochs, "views": ViewConfig(image_size, views), "k": k}
    rows = [
        _cell(data, network, name, run, seed, options, out, progress)
        for seed in range(seeds)
        for name, run in runs.items()
    ]
    facts = {
        "source": source,
        "backbone": network.name,
        "backbone SHA-256": network.sha,
        "image size": image_size,
        "random views": views,
        "epochs (trained methods)": epochs,
        "projector": SHORT,
        "seeds": seeds,
        "K": "given (the true number)" if k == "true" else k,
        "scoring": "transductive, v2 headline; last epoch, nothing selected on the scores",
        **{f"protocol: {name}": v for name, v in data.protocol.items()},
    }
    return {"rows": rows, "metrics": METRICS, "facts": facts, "cost": "fit_seconds"}


def _runs(names: Sequence[str]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name -> (method, changes to its hyper-parameters)."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name in names:
        if name in METHODS:
            found[name] = (name, {})
        elif name == RAW:
            found[name] = ("sskmeans", {})
        elif name.startswith(PRESET):
            preset = hyper_of("nngcd", name.removeprefix(PRESET), {})
            found[name] = ("nngcd", {k: v for k, v in preset.items() if k != "epochs"})
        elif name in ABLATION:
            found[name] = ("nngcd", ABLATION[name])
        else:
            known = ", ".join([*METHODS, RAW, *ABLATION])
            raise ConfigError(f"no method is called {name!r}", hint=f"use one of {known}")
    return found


def _cell(
    data: CategoryData,
    network: Backbone,
    name: str,
    run: tuple[str, Mapping[str, Any]],
    seed: int,
    options: Mapping[str, Any],
    out: Path,
    progress: bool,
) -> dict[str, Any]:
    """One method with one seed, from the folder of finished cells where it is there."""
    views: ViewConfig = options["views"]
    settings = [name, dict(run[1]), seed, vars(views), options["epochs"], options["k"]]
    key = digest_of([settings, vars(_config(run, options)), data.protocol["hash"], network.sha])
    file = out / "cells" / f"{key[:20]}.json"
    if file.is_file():
        return dict(read_json(file))
    hyper = _hyper(run, options)
    k = len(data.known) + len(data.new) if options["k"] == "true" else options["k"]
    space = SpaceConfig(components=0) if name == RAW else SpaceConfig()
    discoverer = CategoryDiscoverer(run[0], network, k=k, hyper=hyper, views=views, space=space, seed=seed)
    begin = time.perf_counter()
    discoverer.fit(data, progress=progress)
    row = {"method": name, "seed": seed, "group": data.name, "fit_seconds": time.perf_counter() - begin}
    row |= discoverer.evaluate(data).rows[0]
    row |= {f"abar_{k}": v for k, v in projected(discoverer).items()}
    write_json(file, {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()})
    return dict(read_json(file))


def _hyper(run: tuple[str, Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a run: a trained method's projector and epochs are the bench's."""
    own = {**SHORT, "epochs": options["epochs"]} if METHODS[run[0]].trained else {}
    return {**own, **run[1]}


def _config(run: tuple[str, Mapping[str, Any]], options: Mapping[str, Any]) -> Any:
    return METHODS[run[0]].settings(_hyper(run, options))


def projected(discoverer: CategoryDiscoverer, sample: int = 1000) -> dict[str, float]:
    """How near the co-occurrence of the features that the loss sees is to the block form.

    For a trained method u, the projector's output; else the frozen features. Old and new by true class.
    """
    fitted = discoverer.need_fit()
    true, rows = fitted.data.truths(), fitted.projected
    chosen = np.flatnonzero(true >= 0)
    if len(chosen) > sample:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, sample, replace=False))
    features = rows[chosen].astype(np.float64)
    found = diagnostics(features, true[chosen] < len(fitted.data.known))
    return {**found, "consistency": class_consistency(features, true[chosen])}
