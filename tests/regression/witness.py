"""What is kept of each task: how its object was fitted, what it says of pictures, and its quick bench.

The one place to adapt when the way to ask changes; what is stored beside it stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
QUIET = {"progress": False}
Stored = dict[str, np.ndarray]


@dataclass(frozen=True)
class Witness:
    """One task.

    Attributes:
        fit: makes the object and fits it on the task's set.
        load: reads a checkpoint folder.
        predict: what the object says of some pictures: name -> array of numbers or words.
        bench: options of the quick bench.
    """

    fit: Callable[[], Any]
    load: Callable[[Path], Any]
    predict: Callable[[Any], Stored]
    bench: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def at_home() -> Iterator[None]:
    """Inside the block the working folder is this one, as checkpoints name their backbones from here, and
    one thread computes."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(HERE)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)


def source(task: str) -> str:
    return f"sets/{task}"


def files(task: str, pattern: str, count: int) -> list[Path]:
    return sorted((Path("sets") / task).glob(pattern))[:count]


def words(values: Any) -> np.ndarray:
    return np.array([str(v) for v in values])


def rows_of(evaluation: Any) -> list[dict[str, Any]]:
    """An evaluation's rows; those of retrieval and continual had other names in the first release."""
    if hasattr(evaluation, "accuracy"):
        each = [{"group": name, "accuracy": value} for name, value in evaluation.accuracy.items()]
        return [*each, {"group": "mean", "accuracy": evaluation.mean}]
    if hasattr(evaluation, "row"):
        return [dict(evaluation.row)]
    return [dict(r) for r in evaluation.rows]


def losses(task: str, model: Any) -> list[float]:
    """The curve of the training loss; of the continual learner the accuracies that it wrote down."""
    if task == "continual":
        return [v for entry in model.matrix for v in entry["accuracy"].values()]
    return [] if model.history is None else [float(v) for v in model.history.curve("loss")]


# -- anomaly -------------------------------------------------------------------------------------------------


def anomaly() -> Any:
    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.features import NeckConfig

    hyper = {"d": 16, "heads": 2, "ffn": 32, "encoder_layers": 1, "decoder_steps": 2, "kernel": 3}
    neck = NeckConfig(image_size=64)
    detector = AnomalyDetector("ras", "backbones/conv", hyper=hyper, neck=neck, false_alarm_rate=0.1, seed=3)
    return detector.fit(source("anomaly"), epochs=6, **QUIET)


def say_anomaly(detector: Any) -> Stored:
    results = detector.predict([*files("anomaly", "*/test/*/*.png", 8)], category="plate")
    return {
        "score": np.array([r.score for r in results]),
        "threshold": np.array([r.threshold for r in results]),
        "anomalous": np.array([r.anomalous for r in results]),
        "map": np.stack([r.map for r in results[:2]])[:, ::4, ::4],
    }


# -- segmentation --------------------------------------------------------------------------------------------


def segmentation() -> Any:
    from wildsight.segmentation import AnomalySegmenter

    segmenter = AnomalySegmenter("spt", "backbones/sam", hyper={"rank": 2}, points=256, seed=3)
    return segmenter.fit(source("segmentation"), epochs=3, batch_size=2, **QUIET)


def say_segmentation(segmenter: Any) -> Stored:
    pictures = files("segmentation", "images/*.png", 3)
    results = segmenter.predict(pictures, boxes=[[(6, 6, 30, 32)], [(4, 9, 40, 40)], [(10, 12, 33, 30)]])
    return {
        "logits": np.stack([r.logits[0] for r in results])[:, ::2, ::2],
        "area": np.array([r.masks.sum() for r in results]),
        "draft area": np.array([r.drafts.sum() for r in results]),
    }


# -- composition ---------------------------------------------------------------------------------------------


def composition() -> Any:
    from wildsight.composition import CompositionRecognizer

    recognizer = CompositionRecognizer("hdaoe", "backbones/clip", hyper={"d": 16, "n_neg": 8}, seed=3)
    return recognizer.fit(source("composition"), epochs=6, **QUIET)


def say_composition(recognizer: Any) -> Stored:
    results = recognizer.predict(files("composition", "*/0.png", 9), pairs="all", top=3)
    return {
        "pairs": words(f"{p.attribute} {p.object}" for r in results for p in r.pairs),
        "score": np.array([p.score for r in results for p in r.pairs]),
        "probability": np.array([p.probability for r in results for p in r.pairs]),
        "known": np.array([r.known for r in results]),
    }


# -- retrieval -----------------------------------------------------------------------------------------------


def retrieval() -> Any:
    from wildsight.retrieval import SketchRetriever

    retriever = SketchRetriever("quadruplet", "backbones/clip", image_size=32, width=16, bits=8, seed=3)
    return retriever.fit(source("retrieval"), epochs=1, **QUIET)


def say_retrieval(retriever: Any) -> Stored:
    sketches = files("retrieval", "sketches/*/0.png", 4)
    photos = files("retrieval", "photos/*/*.png", 20)
    with tempfile.TemporaryDirectory() as folder:
        retriever.index(photos, Path(folder) / "photos.shelf")
        results = retriever.predict(sketches, Path(folder) / "photos.shelf", k=3)
    return {
        "embedding": retriever.embed(sketches, 0),
        "hits": words("/".join(h.path.parts[-2:]) for r in results for h in r.hits),
        "distance": np.array([h.distance for r in results for h in r.hits]),
    }


# -- discovery -----------------------------------------------------------------------------------------------


def discovery() -> Any:
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.discovery.features import ViewConfig

    views, hyper = ViewConfig(image_size=32, views=2), {"hidden": 24, "out": 16}
    discoverer = CategoryDiscoverer("nngcd", "backbones/clip", k=4, hyper=hyper, views=views, seed=3)
    return discoverer.fit(source("discovery"), epochs=4, batch_size=16, **QUIET)


def say_discovery(discoverer: Any) -> Stored:
    results = discoverer.predict(files("discovery", "unlabelled/*.png", 8))
    return {
        "name": words(r.name for r in results),
        "kind": words(r.kind for r in results),
        "confidence": np.array([r.confidence for r in results]),
        "margin": np.array([r.margin for r in results]),
        "doubtful": np.array([r.doubtful for r in results]),
    }


# -- continual -----------------------------------------------------------------------------------------------


def continual() -> Any:
    from wildsight.continual import ContinualLearner

    learner = ContinualLearner("mulki", "backbones/clip", hyper={"mu": 0.8}, seed=3)
    return learner.fit(source("continual"), epochs=6, **QUIET)


def say_continual(learner: Any) -> Stored:
    results = learner.predict(files("continual", "*/test/*/*.png", 12), top=3)
    return {
        "label": words(r.label for r in results),
        "task": words(r.task for r in results),
        "probabilities": np.array([r.probabilities for r in results]),
    }


# -- fusion --------------------------------------------------------------------------------------------------


def fusion() -> Any:
    from wildsight.fusion import FusionSegmenter

    hyper = {"A": 4, "T": 4, "C": 2}
    segmenter = FusionSegmenter("pwrf", "backbones/conv", hyper=hyper, image_size=32, width=4, seed=3)
    return segmenter.fit(source("fusion"), epochs=3, **QUIET)


def say_fusion(segmenter: Any) -> Stored:
    names = ("rgb", "thermal", "depth")
    whole = [{n: Path(f"sets/fusion/test/{n}/{i:02d}.png") for n in names} for i in range(3)]
    lacking = {n: f for n, f in whole[0].items() if n != "thermal"}
    results = segmenter.predict([*whole, lacking])
    return {
        "labels": np.stack([r.labels for r in results]),
        "confidence": np.stack([r.confidence for r in results])[:, ::2, ::2],
        "share": np.array([[r.share.get(n, 0.0) for n in names] for r in results]),
        "missing": words(",".join(r.missing) for r in results),
    }


# -- spatial -------------------------------------------------------------------------------------------------


def spatial() -> Any:
    from wildsight.spatial import SpatialGrounder

    hyper = {"d": 16, "hidden": 32, "K_d": 16, "r": 2, "threshold": 0.0}
    grounder = SpatialGrounder("llmi3d", "backbones/llava", hyper=hyper, cnn="backbones/conv", seed=3)
    return grounder.fit(source("spatial"), epochs=3, **QUIET)


def say_spatial(grounder: Any) -> Stored:
    results = []
    for file in files("spatial", "images/*.png", 3):
        results += grounder.predict(file, ["the red cube", "the blue barrel"], focal=40.0)
    return {
        "boxes": np.array([len(r.boxes) for r in results]),
        "score": np.array([r.score for r in results]),
        "centre": np.array([b.centre for r in results for b in r.boxes]),
        "size": np.array([b.size for r in results for b in r.boxes]),
        "spread": np.array([b.spread for r in results for b in r.boxes]),
        "flags": words(",".join(r.flags) for r in results),
    }


def loaded(module: str, name: str) -> Callable[[Path], Any]:
    """`from_pretrained` of an object."""

    def load(folder: Path) -> Any:
        return getattr(__import__(f"wildsight.{module}", fromlist=[name]), name).from_pretrained(folder)

    return load


WITNESSES: dict[str, Witness] = {
    "anomaly": Witness(
        anomaly,
        loaded("anomaly", "AnomalyDetector"),
        say_anomaly,
        {"backbone": "backbones/conv", "image_size": 128, "seeds": 1, "epochs": 4, "precision": "fp32"},
    ),
    "segmentation": Witness(
        segmentation,
        loaded("segmentation", "AnomalySegmenter"),
        say_segmentation,
        {
            "backbone": "backbones/sam",
            "methods": ["spt", "decoder", "zero-shot"],
            "seeds": 1,
            "masks": 64,
            "augment": "flip",
            "points": 2048,
            "train_prompt": "same",
        },
    ),
    "composition": Witness(
        composition,
        loaded("composition", "CompositionRecognizer"),
        say_composition,
        {
            "backbone": "backbones/clip",
            "methods": ["hdaoe", "csp", "product", "zeroshot"],
            "seeds": 1,
            "open_world": True,
        },
    ),
    "retrieval": Witness(
        retrieval,
        loaded("retrieval", "SketchRetriever"),
        say_retrieval,
        {
            "backbone": "backbones/clip",
            "image_size": 32,
            "methods": ["ramln", "quadruplet", "contrastive", "zero-shot"],
            "seeds": 1,
            "epochs": 1,
            "bits": 8,
        },
    ),
    "discovery": Witness(
        discovery,
        loaded("discovery", "CategoryDiscoverer"),
        say_discovery,
        {
            "backbone": "backbones/clip",
            "image_size": 32,
            "views": 1,
            "seeds": 1,
            "epochs": 4,
            "k": "true",
            "hyper": {"hidden": 512, "out": 128},
        },
    ),
    "continual": Witness(
        continual,
        loaded("continual", "ContinualLearner"),
        say_continual,
        {
            "backbone": "backbones/clip",
            "methods": ["mulki", "zeroshot", "finetune", "wise-ft", "icarl", "lora"],
            "seeds": 1,
        },
    ),
    "fusion": Witness(
        fusion,
        loaded("fusion", "FusionSegmenter"),
        say_fusion,
        {
            "backbone": "backbones/conv",
            "methods": ["pwrf", "concatenation", "single"],
            "seeds": 1,
            "epochs": 4,
            "image_size": 32,
        },
    ),
    "spatial": Witness(
        spatial,
        loaded("spatial", "SpatialGrounder"),
        say_spatial,
        {
            "backbone": "backbones/llava",
            "methods": ["llmi3d", "text", "cube-head"],
            "seeds": 1,
            "epochs": 4,
            "batch_size": 32,
            "lr": 1e-3,
            "strides": (8,),
            "pool": 2,
            "d": 32,
        },
    ),
}

COMPRESSION: Mapping[str, Any] = {
    "backbone": "backbones/llava",
    "methods": ["vtc-cls", "visionzip", "divprune", "fastv", "prefixkv", "snapkv", "h2o", "local"],
    "seeds": 1,
    "tokens": (0.5, 0.25),
    "shares": (0.5,),
    "repeats": 0,
    "window": 8,
    "positions": "original",
}
BENCHES: dict[str, Mapping[str, Any]] = {
    **{task: one.bench for task, one in WITNESSES.items()},
    "compression": COMPRESSION,
}


def bench_rows(task: str, out: Path) -> list[dict[str, Any]]:
    """The rows of a task's quick bench."""
    from wildsight.estimators.bench import run_bench

    with own_nano_conv(out / "nano"):
        return [dict(r) for r in run_bench(task, source(task), out, **BENCHES[task], progress=False)[0].rows]


@contextlib.contextmanager
def own_nano_conv(folder: Path) -> Iterator[None]:
    """Inside the block ``nano-conv`` is the tiny one here: a bench that names it may not move with it."""
    import shutil

    from wildsight.backbones import hub
    from wildsight.files import write_manifest

    shutil.copytree("backbones/conv", folder / "nano-conv", dirs_exist_ok=True)
    write_manifest(folder / "nano-conv")
    before, hub.NANO = hub.NANO, folder
    try:
        yield
    finally:
        hub.NANO = before
