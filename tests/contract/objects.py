"""All that the contract's checks know of each public object: how to make it, feed it and read its answers.

The checks themselves name no task. When a constructor, a result or a set changes, this file changes with it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.expected_failures import EXPECTED

ROOT = Path(__file__).resolve().parents[1] / "regression"
"""Tiny sets and backbones, shared with the regression tests."""
NAMES = (
    "anomaly", "segmentation", "composition", "retrieval", "discovery", "continual", "fusion", "spatial"
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One public object.

    Attributes:
        name: of its task.
        kind: ``module:class``.
        method: a trained one.
        backbone: folder of a tiny one.
        hyper: hyper-parameters that make it small.
        config: ``module:dataclass`` of the method's hyper-parameters.
        typo: a misspelt hyper-parameter, and the word that was meant.
        settings: further arguments of the constructor.
        wrong_setting: a misspelt setting, and the word that was meant.
        training: of a fit of about a second; every step writes a state.
        pictures: files, relative to the set: two or more to predict.
        damaged: a test picture, relative to the set, whose loss an evaluation survives.
        ask: one picture, or a list -> what `predict` takes after the pictures.
        numbers: one result -> its numbers and words.
        fewer: name of a hard case -> what to leave of the set.
    """

    name: str
    kind: str
    method: str
    backbone: str
    hyper: Mapping[str, Any]
    config: str
    typo: tuple[str, str]
    wrong_setting: tuple[str, str]
    pictures: tuple[str, ...]
    damaged: str
    numbers: Callable[[Any], list[Any]]
    fewer: Mapping[str, Callable[[Path], None]]
    settings: Callable[[], dict[str, Any]] = dict
    training: Mapping[str, Any] = field(default_factory=dict)
    ask: Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]] = lambda _: ((), {})
    scene: tuple[str, ...] = ()

    @property
    def cls(self) -> Any:
        """The class."""
        return found(self.kind)

    @property
    def source(self) -> str:
        """Its tiny set."""
        return str(ROOT / "sets" / self.name)

    def make(self, method: str | None = None, *, hyper: Any = None, **settings: Any) -> Any:
        """The tiniest instance."""
        given = {**self.settings(), "seed": 3, **settings}
        hyper = self.hyper if hyper is None else hyper
        return self.cls(method or self.method, str(ROOT / "backbones" / self.backbone), hyper=hyper, **given)

    def fit(self, model: Any, source: str | None = None, out: Path | None = None, **training: Any) -> Any:
        """A short fit. ``out`` was called ``folder`` in the first release."""
        names = inspect.signature(model.fit).parameters
        place = {} if out is None else {"out" if "out" in names else "folder": out}
        given = {"checkpoint_seconds": 0.0, **self.training, **training}
        return model.fit(source or self.source, progress=False, **place, **given)

    def inputs(self, count: int = 2) -> list[Any]:
        """Files to predict; of a task with several sensors one mapping of files per scene."""
        if self.scene:
            pattern = self.pictures[0]
            return [{n: self.file(pattern.format(sensor=n, i=i)) for n in self.scene} for i in range(count)]
        return [self.file(p) for p in self.pictures[:count]]

    def file(self, name: str) -> Path:
        """A file of the set."""
        return Path(self.source) / name

    def predict(self, model: Any, pictures: Any, **options: Any) -> list[Any]:
        """`predict` with what this task asks beside the pictures; one result per picture."""
        more, named = self.ask(pictures)
        return model.predict(pictures, *more, **named, **options)

    def predict_files(self, model: Any, files: list[Any]) -> tuple[list[Any], list[Any]]:
        """`predict_files`, likewise."""
        more, named = self.ask(files)
        return model.predict_files(files, *more, **named)

    def said(self, results: list[Any]) -> list[list[Any]]:
        """The numbers and words of results."""
        return [self.numbers(r) for r in results]


def found(target: str) -> Any:
    """What ``module:name`` points to."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _neck() -> dict[str, Any]:
    return {"neck": found("wildsight.anomaly.features:NeckConfig")(image_size=64), "false_alarm_rate": 0.1}


def _views() -> dict[str, Any]:
    views = found("wildsight.discovery.features:ViewConfig")(image_size=32, views=1)
    return {"k": 4, "views": views}


BOX = (6, 6, 30, 32)


def _boxes(pictures: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (), {"boxes": [[BOX]] * len(pictures) if isinstance(pictures, list) else [BOX]}


@functools.cache
def photo_index() -> Path:
    """An index of all photographs, made once by the fitted retriever."""
    folder = Path(tempfile.mkdtemp(prefix="contract-")) / "photos.shelf"
    fitted("retrieval").index(sorted(SUBJECTS["retrieval"].file("photos").rglob("*.png")), folder)
    return folder


def _in_index(_pictures: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (photo_index(),), {"k": 3}


def _expression(_pictures: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ("the red cube",), {"focal": 40.0}


# -- hard sets -----------------------------------------------------------------------------------------------


def keep(*patterns: str) -> Callable[[Path], None]:
    """Leave those pictures of a set, and all else that is no picture."""

    def leave(root: Path) -> None:
        kept = {file for pattern in patterns for file in root.glob(pattern)}
        for file in root.rglob("*.png"):
            if file not in kept:
                file.unlink()
        for folder in sorted(root.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for table in ("unseen_pairs.txt", "truth.csv", "classes.json", "tasks.json"):
            (root / table).unlink(missing_ok=True)

    return leave


def _questions(count: int, name: str) -> Callable[[Path], None]:
    def leave(root: Path) -> None:
        lines = (root / "labels.jsonl").read_text().splitlines()
        rows = [r for r in map(json.loads, lines) if r.get("name") == name]
        train = [r for r in rows if r["split"] == "train"][:count]
        test = [r for r in rows if r["split"] == "test"]
        text = "".join(f"{json.dumps(r)}\n" for r in [*train, *test])
        (root / "labels.jsonl").write_text(text)

    return leave


def _blank_masks(root: Path) -> None:
    for file in root.glob("*/masks/*.png"):
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(file)


SUBJECTS: dict[str, Subject] = {
    "anomaly": Subject(
        "anomaly",
        "wildsight.anomaly:AnomalyDetector",
        "ras",
        "conv",
        {"d": 16, "heads": 2, "ffn": 32, "encoder_layers": 1, "decoder_steps": 1, "kernel": 3},
        "wildsight.anomaly.methods.ras:RAS",
        ("decoder_step", "decoder_steps"),
        ("false_alarm_rat", "false_alarm_rate"),
        ("plate/test/spot/0.png", "weave/test/good/1.png", "plate/test/good/0.png"),
        "plate/test/good/0.png",
        lambda r: [r.score, r.threshold, r.anomalous, r.map],
        {
            "one picture": keep("plate/train/good/0.png", "plate/test/*/*.png", "plate/ground_truth/*/*"),
            "single class": keep("plate/**/*.png"),
        },
        _neck,
        {"epochs": 2, "batch_size": 8},
    ),
    "segmentation": Subject(
        "segmentation",
        "wildsight.segmentation:AnomalySegmenter",
        "spt",
        "sam",
        {"rank": 2},
        "wildsight.segmentation.methods.spt:SPT",
        ("rnak", "rank"),
        ("pionts", "points"),
        ("images/0.png", "images/1.png", "images/2.png"),
        "images/3.png",
        lambda r: [r.masks, r.logits],
        {
            "one picture": keep("images/0.png", "masks/0.png"),
            "single class": keep("images/[036].png", "masks/[036].png"),
        },
        lambda: {"points": 64},
        {"epochs": 1, "batch_size": 2},
        _boxes,
    ),
    "composition": Subject(
        "composition",
        "wildsight.composition:CompositionRecognizer",
        "hdaoe",
        "clip",
        {"d": 16, "n_neg": 4},
        "wildsight.composition.methods.hdaoe:HDAOE",
        ("omga", "omega"),
        ("abstian", "abstain"),
        ("red_square/0.png", "green_disc/1.png", "blue_cross/2.png"),
        "red_square/1.png",
        lambda r: [x for p in r.pairs for x in (p.attribute, p.object, p.score, p.probability)],
        {
            "one picture": keep("green_square/0.png"),
            "single class": keep("green_square/*.png"),
        },
        lambda: {"calibrate": False},
        {"epochs": 1, "batch_size": 8},
    ),
    "retrieval": Subject(
        "retrieval",
        "wildsight.retrieval:SketchRetriever",
        "quadruplet",
        "clip",
        {"mu0": 0.3},
        "wildsight.retrieval.methods.ramln:Quadruplet",
        ("kapa", "kappa"),
        ("widht", "width"),
        ("sketches/bars/0.png", "sketches/cross/0.png", "sketches/frame/1.png"),
        "photos/bars/0.png",
        lambda r: [x for h in r.hits for x in (h.path.as_posix(), h.distance)],
        {
            "one picture": keep("photos/cross/0.png", "sketches/cross/0.png"),
            "single class": keep("photos/cross/*.png", "sketches/cross/*.png"),
        },
        lambda: {"image_size": 32, "width": 16},
        {"epochs": 1},
        _in_index,
    ),
    "discovery": Subject(
        "discovery",
        "wildsight.discovery:CategoryDiscoverer",
        "nngcd",
        "clip",
        {"hidden": 24, "out": 16},
        "wildsight.discovery.methods.nngcd:NNGCD",
        ("hiden", "hidden"),
        ("duobt", "doubt"),
        ("unlabelled/2.png", "unlabelled/3.png", "unlabelled/40.png"),
        "unlabelled/2.png",
        lambda r: [r.group, r.name, r.kind, r.confidence, r.margin, r.doubtful],
        {
            "one picture": keep("labelled/bars/0.png"),
            "single class": keep("labelled/bars/*.png", "unlabelled/*0.png"),
        },
        _views,
        {"epochs": 1, "batch_size": 16},
    ),
    "continual": Subject(
        "continual",
        "wildsight.continual:ContinualLearner",
        "mulki",
        "clip",
        {"mu": 0.8},
        "wildsight.continual.methods.mulki:MulKI",
        ("kapa", "kappa"),
        ("max_dorp", "max_drop"),
        ("colours/test/red/5.png", "shapes/test/cross/6.png", "colours/test/blue/7.png"),
        "colours/test/red/5.png",
        lambda r: [r.label, r.task, *r.classes, *r.probabilities],
        {
            "one picture": keep("shapes/train/cross/0.png", "shapes/test/cross/5.png"),
            "single class": keep("shapes/*/cross/*.png"),
        },
        dict,
        {"epochs": 1, "batch_size": 8},
    ),
    "fusion": Subject(
        "fusion",
        "wildsight.fusion:FusionSegmenter",
        "pwrf",
        "conv",
        {"A": 4, "T": 2, "C": 2},
        "wildsight.fusion.methods.pwrf:PWRF",
        ("itres", "iters"),
        ("widht", "width"),
        ("test/{sensor}/{i:02d}.png",),
        "test/rgb/00.png",
        lambda r: [r.labels, r.confidence, *sorted(r.share.items())],
        {
            "one picture": keep("train/*/00.png", "test/*/*.png"),
            "single class": _blank_masks,
        },
        lambda: {"image_size": 32, "width": 4},
        {"epochs": 1, "batch_size": 4},
        scene=("rgb", "thermal", "depth"),
    ),
    "spatial": Subject(
        "spatial",
        "wildsight.spatial:SpatialGrounder",
        "llmi3d",
        "llava",
        {"d": 8, "hidden": 16, "K_d": 8, "r": 2, "threshold": 0.0},
        "wildsight.spatial.methods.llmi3d:LLMI3D",
        ("hiden", "hidden"),
        ("stirdes", "strides"),
        ("images/10.png", "images/11.png", "images/12.png"),
        "images/10.png",
        lambda r: [
            r.score,
            *r.flags,
            *(x for b in r.boxes for x in (b.centre, b.size, b.rotation, b.spread)),
        ],
        {"one picture": _questions(1, "cube"), "single class": _questions(4, "cube")},
        lambda: {"cnn": str(ROOT / "backbones" / "conv")},
        {"epochs": 1, "batch_size": 10},
        _expression,
    ),
}


@functools.cache
def fitted(name: str) -> Any:
    """The object of a task, fitted once for all checks that only read it."""
    subject = SUBJECTS[name]
    return subject.fit(subject.make())


def each_object(check: Callable[..., Any]) -> Callable[..., Any]:
    """Run a check with every ``subject``; what `EXPECTED` names is marked, and noticed when it passes.

    A check with further parameters is named with their values: ``test_predict_takes[bytes]``.
    """
    return pytest.mark.parametrize("subject", [SUBJECTS[n] for n in NAMES], ids=NAMES)(check)


def expected(check: str, name: str) -> str | None:
    """Why a check fails for an object today, if it is known to."""
    for key in (check, check.partition("[")[0]):
        reasons = EXPECTED.get(key, {})
        if name in reasons or "all" in reasons:
            return reasons.get(name) or reasons["all"]
    return None


def equal(one: Any, other: Any) -> bool:
    """Same numbers and words, bit for bit."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def close(one: Any, other: Any) -> bool:
    """Same words, and numbers that differ as sums in another order do."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, str | bool | None):
        return bool(one == other)
    return np.allclose(np.asarray(one, float), np.asarray(other, float), rtol=1e-4, atol=1e-5)
