"""One family through one task: fit a step, predict, save, load."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from contract.objects import SUBJECTS, Subject, equal, found
from wildsight.backbones import Backbone

PICTURES = {
    "anomaly": ("plate/train/good/[01].png", "plate/test/spot/0.png", "plate/ground_truth/spot/0*.png"),
    "discovery": ("labelled/*/[01].png", "unlabelled/[234]?.png"),
    "composition": ("green_square/0.png",),
    "retrieval": ("photos/*/[01].png", "sketches/*/[01].png"),
    "fusion": ("train/*/00.png", "test/*/00.png"),
    "continual": ("shapes/train/cross/0.png", "shapes/test/cross/5.png"),
    "segmentation": ("images/*.png", "masks/*.png"),
}
"""What is left of each task's tiny set."""


@functools.cache
def source(task: str) -> str:
    """A set of a few pictures."""
    place = Path(tempfile.mkdtemp(prefix="zoo-")) / task
    shutil.copytree(SUBJECTS[task].source, place)
    kept = {file for pattern in PICTURES[task] for file in place.glob(pattern)}
    for file in set(place.rglob("*.png")) - kept:
        file.unlink()
    for empty in sorted(place.rglob("*"), reverse=True):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
    if task in ("discovery", "continual", "composition"):
        for table in ("truth.csv", "tasks.json", "unseen_pairs.txt"):
            (place / table).unlink(missing_ok=True)
    return str(place)


def settings(task: str, side: int) -> dict[str, Any]:
    """Of pictures of ``side`` pixels."""
    if task == "anomaly":
        return {"neck": found("wildsight.anomaly.features:NeckConfig")(image_size=side)}
    if task == "discovery":
        views = found("wildsight.discovery.features:ViewConfig")(image_size=side, views=1)
        return {"k": 3, "views": views}
    sized = {"composition": {"image_size": side}, "retrieval": {"image_size": side, "width": 16}}
    sized["fusion"] = {"image_size": side, "width": 4}
    return SUBJECTS[task].settings() | sized.get(task, {})


def made(task: str, backbone: Backbone, side: int) -> Any:
    """The task's object on a backbone."""
    subject = SUBJECTS[task]
    return subject.cls(subject.method, backbone, hyper=subject.hyper, seed=3, **settings(task, side))


def run(task: str, backbone: Backbone, side: int, place: Path) -> None:
    """Fit a step, predict twice, save, load and predict: the same numbers each time."""
    subject, model = SUBJECTS[task], made(task, backbone, side)
    subject.fit(model, source(task), checkpoint_seconds=1e9, epochs=1)
    first = predicted(subject, model, place)
    assert equal(first, predicted(subject, model, place)), "predicting again gives other numbers"
    model.save_pretrained(place / "checkpoint")
    loaded = type(model).from_pretrained(place / "checkpoint", backbone=backbone)
    assert equal(first, predicted(subject, loaded, place)), "a loaded model gives other numbers"


def predicted(subject: Subject, model: Any, place: Path) -> list[Any]:
    """The numbers of one picture."""
    files = subject.inputs(1)
    if subject.name != "retrieval":
        return subject.said(subject.predict(model, files))
    index = place / "photos.shelf"
    if not index.exists():
        model.index(sorted(Path(source("retrieval")).glob("photos/*/0.png")), index)
    return subject.said(model.predict(files, index, k=2))
