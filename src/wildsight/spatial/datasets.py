"""Readers of the benchmark folders and of the task's plain folder, and the check; no torch.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wildsight.errors import DataError, WildSightError
from wildsight.images import image_size, list_images, load_image
from wildsight.sources import Problem
from wildsight.spatial.boxes import Box, checked
from wildsight.spatial.camera import read_calibration
from wildsight.spatial.captions import names_something
from wildsight.spatial.faults import Faults
from wildsight.spatial.layouts import read_kitti, read_mono3drefer, read_omni3d
from wildsight.spatial.samples import SPLITS, SpatialData, SpatialSample, protocol, split_of

LABELS = "labels.jsonl"
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
    samples: list[SpatialSample] = []
    for name, own in by_image.items():
        with faults.each(root / name):
            samples += _questions(root, name, own, faults)
    rule = "by the labels' own split, else one picture in five, by the hash of its name, is for testing"
    return SpatialData(f"folder:{root}", root, tuple(samples), protocol(samples, rule))


def _by_image(root: Path, faults: Faults) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """The label lines of each picture, with their numbers."""
    file = root / LABELS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=file, hint=MEND) from error
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        with faults.each(file):
            if line.strip():
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
    root: Path, name: str, rows: list[tuple[int, dict[str, Any]]], faults: Faults
) -> list[SpatialSample]:
    """The questions about one picture."""
    boxes: list[tuple[str | None, Box | None, dict[str, Any]]] = []
    for number, row in rows:
        with faults.each(root / LABELS):
            where = f"{root / LABELS}:{number}"
            box = None if row.get("absent") else box_of(row, where)
            if row.get("split", "train") not in SPLITS:
                hint = f"use {', '.join(SPLITS)}"
                raise DataError(f"split {row['split']!r} is unknown", where=where, hint=hint)
            boxes.append((_expression(row, where), box, row))
    file = _inside(root / "images", name)
    camera, offset = read_calibration(root / "calib" / f"{Path(name).stem}.txt", image_size(file))
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
    if Path(name).name != name or not file.is_file():
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


READERS: dict[str, Callable[[Path, Faults | None], SpatialData]] = {
    "folder": read_folder,
    "kitti": read_kitti,
    "mono3drefer": read_mono3drefer,
    "omni3d": read_omni3d,
}


def read(reader: str, root: Path) -> SpatialData:
    """What ``reader`` finds below ``root``."""
    return READERS[reader](root, None)


def check(reader: str, root: Path) -> list[Problem]:
    """Every problem of a set: line by line, annotation by annotation, picture by picture."""
    faults = Faults(noted=True)
    try:
        data = READERS[reader](root, faults)
    except WildSightError as error:
        last = Problem(Path(error.where or root), error.what, error.hint or "see the documentation")
        return [*faults.problems, last]
    spare = _unnamed(root) if reader == "folder" else []
    return [*faults.problems, *spare, *_check_samples(data)]


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


__all__ = ["READERS", "Problem", "SpatialData", "SpatialSample", "check", "read", "read_folder"]
