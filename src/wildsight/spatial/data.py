"""The spatial task's data: how a source becomes questions, and a check before training; no torch.

Plain folder::

    images/NAME.png             any picture format
    calib/NAME.txt              `P2: fx 0 cx 0 0 fy cy 0 0 0 1 0`, optionally `size: WIDTH HEIGHT`
    labels.jsonl                one box a line: {"image": "NAME.png", "expression": "the red cube" or null,
                                "name": "cube", "centre": [x, y, z], "size": [length, height, width],
                                "yaw": radians}, optionally "split", "group", and for what is not there
                                {"image", "expression", "absent": true}

Metres and radians before the camera. Lines with one picture and expression are one question with several
boxes; a line without expression is a box that nobody asks for.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wildsight.datasets import formats
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import unread_formats
from wildsight.datasets.lists import read_lines
from wildsight.datasets.ranges import range_problems
from wildsight.datasets.source import DataSource, read_named
from wildsight.datasets.tables import PictureRow, PictureTable
from wildsight.errors import DataError, WildSightError
from wildsight.images import image_size, list_images, load_image
from wildsight.sources import Problem, parse_source
from wildsight.spatial.boxes import Box, checked
from wildsight.spatial.camera import Camera, read_calibration
from wildsight.spatial.captions import names_something
from wildsight.spatial.layouts import read_kitti, read_mono3drefer, read_omni3d
from wildsight.spatial.samples import (
    SPLITS,
    SpatialData,
    SpatialSample,
    Split,
    left_out,
    protocol,
    split_of,
)

SIZE = 96
TRAIN, TEST = 400, 100
FOCAL = (1.0, 1.2)  # focal lengths of the training pictures, in picture sides
FACTORS = (0.6, 1.0, 1.6, 2.5)
MOST, SCALES = 4, (1.0, 1.6)  # things in a picture, and their sizes in multiples of a shape's own
REFUSALS = 5  # one question in so many is about something that is not there
LABELS = "labels.jsonl"
CELLS = "write numbers into x, y, z, length, height, width and yaw"
MEND = 'write {"image", "expression", "name", "centre", "size", "yaw"} a line'


def read_folder(root: Path, faults: Faults | None = None) -> SpatialData:
    """The plain folder.

    Raises:
        DataError: a missing file, or a line, box or calibration that does not fit.
    """
    faults = faults or Faults()
    by_image = _by_image(root, faults)
    if not by_image and not faults.problems:
        raise DataError("holds no label", where=root / LABELS, hint=MEND)
    return _labelled(f"folder:{root}", root / LABELS, root / "images", by_image, faults)


Labels = dict[str, list[tuple[int, dict[str, Any]]]]
"""Picture -> the numbers and the content of its lines."""


def _labelled(name: str, labels: Path, images: Path, by_image: Labels, faults: Faults) -> SpatialData:
    """The questions of label lines, whatever file they stand in."""
    root = labels.parent
    samples: list[SpatialSample] = []
    unread: list[tuple[str, str]] = []
    for picture, own in by_image.items():
        split = str(own[0][1].get("split", split_of(picture)))
        with faults.each(root / picture), left_out(faults, unread, split):
            samples += _questions(labels, images, picture, own, faults)
    rule = "by the labels' own split, else one picture in five, by the hash of its name, is for testing"
    return SpatialData(name, root, tuple(samples), protocol(samples, rule), tuple(unread))


def read_table(path: Path, faults: Faults | None = None, *, name: str = "csv") -> SpatialData:
    """A CSV with one box a row: ``image, expression, name, x, y, z, length, height, width, yaw``.

    ``split``, ``group`` and ``absent`` as in the labels; calibrations in ``calib/`` beside it.

    Raises:
        DataError: as `read_folder`.
    """
    faults = faults or Faults()
    found = formats.read(name, path, faults)
    if not isinstance(found, PictureTable):
        raise DataError("is no table", where=path, hint=f"use {name}:FILE.csv")
    by_image: Labels = {}
    for row in found.need("image", "expression").rows:
        with faults.each(found.file):
            cells = _cells(row, found.file)
            by_image.setdefault(row.values["image"], []).append((row.number, cells))
    return _labelled(f"{name}:{path}", found.file, found.root, by_image, faults)


def _cells(row: PictureRow, file: Path) -> dict[str, Any]:
    """A row as a label line."""
    cells = {name: text for name, text in row.values.items() if text and name != "split"}
    cells |= {"split": "val" if row.split == "validation" else row.split} if row.split else {}
    if cells.get("absent", "").lower() in ("", "0", "false", "no"):
        cells.pop("absent", None)
    try:
        centre = [float(row.values[n]) for n in ("x", "y", "z") if cells.get(n)]
        size = [float(row.values[n]) for n in ("length", "height", "width") if cells.get(n)]
    except ValueError as error:
        raise DataError(f"line {row.number} holds what is no number", where=file, hint=CELLS) from error
    return {**cells, "centre": centre, "size": size}


def _by_image(root: Path, faults: Faults) -> Labels:
    """The label lines of each picture, with their numbers."""
    file = root / LABELS
    found: Labels = {}
    for number, line in read_lines(file):
        with faults.each(file):
            row = _line(line, number, file)
            found.setdefault(row["image"], []).append((number, row))
    return found


def _line(line: str, number: int, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"line {number} is not JSON ({error})", where=file, hint=MEND) from error
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        raise DataError(f"line {number} names no image", where=file, hint=MEND)
    return row


def _questions(
    labels: Path, images: Path, name: str, rows: list[tuple[int, dict[str, Any]]], faults: Faults
) -> list[SpatialSample]:
    """The questions about one picture."""
    boxes: list[tuple[str | None, Box | None, dict[str, Any]]] = []
    for number, row in rows:
        with faults.each(labels):
            where = f"{labels}:{number}"
            box = None if row.get("absent") else box_of(row, where)
            if row.get("split", "train") not in SPLITS:
                hint = f"use {', '.join(SPLITS)}"
                raise DataError(f"split {row['split']!r} is unknown", where=where, hint=hint)
            boxes.append((_expression(row, where), box, row))
    file = _inside(images, name)
    camera, offset = read_calibration(labels.parent / "calib" / f"{Path(name).stem}.txt", image_size(file))
    moved = [
        (t, None if b is None else Box(b.centre + offset, b.size, b.rotation, b.name), r) for t, b, r in boxes
    ]
    samples = []
    for place, text in enumerate(dict.fromkeys(text for text, _, _ in moved if text)):
        own = [(b, r) for t, b, r in moved if t == text]
        targets = tuple(b for b, _ in own if b is not None)
        others = tuple(b for t, b, _ in moved if t != text and b is not None)
        first = own[0][1]
        split = first.get("split", split_of(name))
        samples.append(
            SpatialSample(
                f"{Path(name).stem}#{place}", file, camera, text, targets, others, split,
                str(first.get("group", "")), str(first.get("answer", "")),
            )
        )  # fmt: skip
    return samples


def _inside(folder: Path, name: str) -> Path:
    """A picture of the folder; names that lead out of it are refused."""
    file = folder / name
    if not Path(os.path.normpath(file)).is_relative_to(folder) or not file.is_file():
        raise DataError("no such picture", where=file, hint="name a file inside images/")
    return file


def _expression(row: dict[str, Any], where: str) -> str | None:
    text = row.get("expression")
    if text is None:
        return None
    hint = "write what is looked for, or null"
    if not isinstance(text, str) or not text.strip():
        raise DataError("an expression without words", where=where, hint=hint)
    if not names_something(text):
        raise DataError(f"an expression that names no object ({text!r})", where=where, hint=hint)
    return text.strip()


def box_of(row: dict[str, Any], where: str) -> Box:
    """The box of a label line.

    Raises:
        DataError: a missing number, or a box that is none.
    """
    try:
        box = Box.upright(row["centre"], row["size"], float(row["yaw"]), str(row.get("name", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a box is incomplete ({error})", where=where, hint=MEND) from error
    if box.centre.shape != (3,) or box.size.shape != (3,):
        raise DataError("centre and size need three numbers each", where=where, hint=MEND)
    return checked(box, where)


class _Reader(Protocol):
    """Reads a folder; with ``faults``, every fault is noted or raised as they say."""

    def __call__(self, root: Path, faults: Faults | None = None) -> SpatialData: ...


READERS: dict[str, _Reader] = {
    "folder": read_folder,
    "kitti": read_kitti,
    "mono3drefer": read_mono3drefer,
    "omni3d": read_omni3d,
    "coco": read_omni3d,
    **{name: partial(read_table, name=name) for name in formats.TABLES},
}


def read(reader: str, root: str | Path) -> SpatialData:
    """What ``reader`` finds below ``root``.

    Raises:
        DataError: an unknown name, a missing folder, or one that does not fit the layout.
    """
    return read_named(READERS, reader, root)


def read_source(text: str | Path) -> SpatialData:
    """The data behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    return DataSource(READERS, lambda: world(), lambda _: [], files=_pictures).read(text)


def _pictures(data: SpatialData) -> list[Path]:
    """The files of a set, each once."""
    return list(dict.fromkeys(s.image for s in data.samples if isinstance(s.image, Path)))


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before any training starts; imports no torch."""
    source = parse_source(text, READERS)
    if source.path is None:
        return []
    return [*check(source.reader, source.path), *unread_formats(source.path)]


def check(reader: str, root: Path) -> list[Problem]:
    """Every problem of a set: line by line, annotation by annotation, picture by picture."""
    faults = Faults(noted=True)
    try:
        data = READERS[reader](root, faults)
    except WildSightError as error:
        last = Problem(Path(error.where or root), error.what, error.hint or "see the documentation")
        return [*faults.problems, last]
    spare = _unnamed(root) if reader == "folder" else []
    return [*faults.problems, *spare, *range_problems(_pictures(data)), *_check_samples(data)]


def _unnamed(root: Path) -> list[Problem]:
    """Pictures of the plain folder that no label names."""
    named = set(_by_image(root, Faults(noted=True)))
    files = list_images(root / "images") if (root / "images").is_dir() else []
    return [Problem(f, "no label names it", "label or remove it") for f in files if f.name not in named]


def _check_samples(data: SpatialData) -> list[Problem]:
    """Unreadable pictures, doubtful calibrations, boxes out of sight, one picture in two splits."""
    problems: list[Problem] = []
    splits: dict[str, str] = {}
    for sample in data.samples:
        file = Path(sample.key)
        if sample.key in splits:
            if splits[sample.key] != sample.split:
                problems.append(Problem(file, "is in two splits", "keep a picture in one split"))
            continue
        splits[sample.key] = sample.split
        problems += _check_picture(sample, file)
    for split in ("train", "test"):
        if not data.part(split):
            problems.append(Problem(data.root or Path(), f"no question for {split}", "label more pictures"))
    return problems


def _check_picture(sample: SpatialSample, file: Path) -> list[Problem]:
    problems = []
    if isinstance(sample.image, Path):
        try:
            load_image(sample.image)
        except WildSightError as error:
            problems.append(Problem(file, error.what, error.hint or "restore it"))
    if sample.camera.off_centre:
        hint = "calibrate for this size, or add a line `size: WIDTH HEIGHT` to the calibration"
        problems.append(Problem(file, "its calibration looks like one for another size", hint))
    for box in (*sample.targets, *sample.others):
        left, top, right, bottom = box.bounds(sample.camera.matrix, sample.camera.width, sample.camera.height)
        if right - left < 1 or bottom - top < 1:
            problems.append(
                Problem(file, f"the box of {box.name or 'an object'} is out of sight", "remove it")
            )
    return problems


@lru_cache(maxsize=4)
def world(
    train: int = TRAIN,
    test: int = TEST,
    size: int = SIZE,
    seed: int = 0,
    factors: tuple[float, ...] = FACTORS,
    focal: tuple[float, float] = FOCAL,
    several: bool = False,
    all_named: bool = False,
    most: int = MOST,
    scales: tuple[float, float] = SCALES,
) -> SpatialData:
    """The embedded world before level cameras: one range of focal lengths to learn from, others for the test.

    Args:
        train: training pictures.
        test: test pictures for each factor.
        size: side, pixels.
        seed: 0 or more.
        factors: the test's focal lengths over the training's.
        focal: the training's range, in picture sides.
        several: ask for "all objects" too, once in every other picture.
        most: things in a picture, 1 to 4.
        scales: range of their sizes in multiples of a shape's own.
        all_named: in training ask for every other thing too whose shape is the only one of its kind.
    """
    things = (most, scales)
    samples = list(_drawn("train", train, size, 2 * seed, focal, "x1", *things))
    if all_named:
        samples += [more for sample in samples for more in _named_others(sample)]
    for factor in factors:
        low, high = (min(max(v * factor, 0.6), 3.0) for v in focal)
        samples += _drawn("test", test, size, 2 * seed + 1, (low, high), f"x{factor:g}", *things)
    samples = with_refusals(samples, seed)
    if several:
        samples += [_everything(s) for s in samples[::2] if s.targets]
    rule = (
        f"training focal lengths {focal[0]:g} to {focal[1]:g} picture sides; test groups are factors of "
        f"them; 1 to {most} things of {scales[0]:g} to {scales[1]:g} times their own size"
    )
    return SpatialData("world", None, tuple(samples), protocol(samples, rule))


def _drawn(
    split: Split,
    count: int,
    size: int,
    seed: int,
    focal: tuple[float, float],
    group: str,
    most: int,
    scales: tuple[float, float],
) -> list[SpatialSample]:
    from wildsight.world.sets import grounding

    if count < 1:
        return []
    made = grounding(seed=seed, size=size, count=count, focal=focal, most=most, scales=scales)
    samples = []
    for row, (image, boxes) in enumerate(zip(made.images, made.boxes, strict=True)):
        camera = Camera.from_matrix(made.intrinsics[row], size, size, "calibration")
        own = [Box.upright(list(b.centre), list(b.size), b.yaw, b.name) for b in boxes]
        name = f"{split}/{group}/{seed}/{row:05d}"
        text = made.expressions[row]
        samples.append(SpatialSample(name, image, camera, text, (own[0],), tuple(own[1:]), split, group))
    return samples


def with_refusals(samples: list[SpatialSample], seed: int, every: int = REFUSALS) -> list[SpatialSample]:
    """For one picture in ``every``, a second question: an expression whose shape that picture does not
    have."""
    rng = np.random.default_rng((seed, 11))
    out = list(samples)
    for place in range(0, len(samples), every):
        sample = samples[place]
        there = {b.name for b in (*sample.targets, *sample.others)}
        strange = [s for s in samples if s.split == sample.split and not there & _named(s)]
        if strange:
            text = strange[int(rng.integers(len(strange)))].expression
            others = (*sample.targets, *sample.others)
            out.append(replace(sample, name=f"{sample.name}#no", expression=text, targets=(), others=others))
    return out


def _named_others(sample: SpatialSample) -> list[SpatialSample]:
    """A question for each other thing that is the only one of its shape and whose middle is in sight."""
    boxes = (*sample.targets, *sample.others)
    found = []
    for place, box in enumerate(sample.others, start=1):
        x, y = sample.camera.matrix[:2] @ (box.centre / box.centre[2])
        seen = 0 < x < sample.camera.width and 0 < y < sample.camera.height
        if seen and sum(b.name == box.name for b in boxes) == 1:
            rest = tuple(b for b in boxes if b is not box)
            name = f"{sample.name}#{place}"
            found.append(
                replace(sample, name=name, expression=f"the {box.name}", targets=(box,), others=rest)
            )
    return found


def _everything(sample: SpatialSample) -> SpatialSample:
    boxes = (*sample.targets, *sample.others)
    return replace(sample, name=f"{sample.name}#all", expression="objects", targets=boxes, others=())


def _named(sample: SpatialSample) -> set[str]:
    """Shapes that an expression speaks of."""
    words = set(sample.expression.split())
    return {b.name for b in (*sample.targets, *sample.others) if b.name in words} | {sample.targets[0].name}


__all__ = [
    "READERS", "Problem", "SpatialData", "SpatialSample", "check", "check_source", "read", "read_folder",
    "read_source", "world",
]  # fmt: skip
