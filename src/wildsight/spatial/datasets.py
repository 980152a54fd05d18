"""Readers of the benchmark folders and of the room's plain folder, and the check; no torch.

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wildsight.errors import DataError, WildSightError
from wildsight.images import image_size, list_images, load_image
from wildsight.sources import Problem
from wildsight.spatial.boxes import Box, checked
from wildsight.spatial.camera import read_calibration
from wildsight.spatial.captions import names_something
from wildsight.spatial.layouts import read_kitti, read_mono3drefer, read_omni3d
from wildsight.spatial.samples import SPLITS, SpatialData, SpatialSample, protocol, split_of

LABELS = "labels.jsonl"
MEND = 'write {"image", "expression", "name", "centre", "size", "yaw"} a line'


def read_folder(root: Path) -> SpatialData:
    """The plain folder.

    Raises:
        DataError: a missing file, or a line, box or calibration that does not fit.
    """
    rows = list(_lines(root / LABELS))
    if not rows:
        raise DataError("holds no label", where=root / LABELS, mend=MEND)
    by_image: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, row in rows:
        by_image.setdefault(str(row["image"]), []).append((number, row))
    samples: list[SpatialSample] = []
    for name, own in by_image.items():
        samples += _questions(root, name, own)
    rule = "by the labels' own split, else one picture in five, by the hash of its name, is for testing"
    return SpatialData(f"folder:{root}", root, tuple(samples), protocol(samples, rule))


def _lines(file: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=file, mend=MEND) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} is not JSON ({error})", where=file, mend=MEND) from error
        if not isinstance(row, dict) or not isinstance(row.get("image"), str):
            raise DataError(f"line {number} names no image", where=file, mend=MEND)
        yield number, row


def _questions(root: Path, name: str, rows: list[tuple[int, dict[str, Any]]]) -> list[SpatialSample]:
    """The questions about one picture."""
    file = _inside(root / "images", name)
    size = image_size(file)
    camera, offset = read_calibration(root / "calib" / f"{Path(name).stem}.txt", size)
    boxes: list[tuple[str | None, Box | None, dict[str, Any]]] = []
    for number, row in rows:
        where = f"{root / LABELS}:{number}"
        box = None if row.get("absent") else box_of(row, where)
        shifted = None if box is None else Box(box.centre + offset, box.size, box.rotation, box.name)
        boxes.append((_expression(row, where), shifted, row))
    asked = dict.fromkeys(text for text, _, _ in boxes if text)
    samples = []
    for place, text in enumerate(asked):
        own = [(b, r) for t, b, r in boxes if t == text]
        targets = tuple(b for b, _ in own if b is not None)
        others = tuple(b for t, b, _ in boxes if t != text and b is not None)
        first = own[0][1]
        split = first.get("split", split_of(name))
        if split not in SPLITS:
            raise DataError(
                f"split {split!r} is unknown", where=root / LABELS, mend=f"use {', '.join(SPLITS)}"
            )
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
        raise DataError("no such picture", where=file, mend="name a file inside images/")
    return file


def _expression(row: dict[str, Any], where: str) -> str | None:
    text = row.get("expression")
    if text is None:
        return None
    mend = "write what is looked for, or null"
    if not isinstance(text, str) or not text.strip():
        raise DataError("an expression without words", where=where, mend=mend)
    if not names_something(text):
        raise DataError(f"an expression that names no object ({text!r})", where=where, mend=mend)
    return text.strip()


def box_of(row: dict[str, Any], where: str) -> Box:
    """The box of a label line.

    Raises:
        DataError: a missing number, or a box that is none.
    """
    try:
        box = Box.upright(row["centre"], row["size"], float(row["yaw"]), str(row.get("name", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a box is incomplete ({error})", where=where, mend=MEND) from error
    if box.centre.shape != (3,) or box.size.shape != (3,):
        raise DataError("centre and size need three numbers each", where=where, mend=MEND)
    return checked(box, where)


READERS: dict[str, Callable[[Path], SpatialData]] = {
    "folder": read_folder,
    "kitti": read_kitti,
    "mono3drefer": read_mono3drefer,
    "omni3d": read_omni3d,
}


def read(reader: str, root: Path) -> SpatialData:
    """What ``reader`` finds below ``root``."""
    return READERS[reader](root)


def check(reader: str, root: Path) -> list[Problem]:
    """Every problem of a set: of the plain folder line by line, of a benchmark by its reader."""
    if reader == "folder":
        return _check_folder(root)
    try:
        data = read(reader, root)
    except WildSightError as error:
        return [Problem(Path(error.where or root), error.what, error.mend or "see the documentation")]
    return _check_samples(data)


def _check_folder(root: Path) -> list[Problem]:
    problems: list[Problem] = []
    try:
        rows = list(_lines(root / LABELS))
    except WildSightError as error:
        return [Problem(Path(error.where or root), error.what, error.mend or MEND)]
    by_image: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, row in rows:
        by_image.setdefault(row["image"], []).append((number, row))
    samples: list[SpatialSample] = []
    for name, own in by_image.items():
        try:
            samples += _questions(root, name, own)
        except WildSightError as error:
            problems.append(Problem(Path(error.where or root / name), error.what, error.mend or MEND))
    if (root / "images").is_dir():
        unnamed = [f for f in list_images(root / "images") if f.name not in by_image]
        problems += [Problem(f, "no label names it", "label or remove it") for f in unnamed]
    return problems + _check_samples(SpatialData(str(root), root, tuple(samples)))


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
            problems.append(Problem(file, error.what, error.mend or "restore it"))
    if sample.camera.off_centre:
        mend = "calibrate for this size, or add a line `size: WIDTH HEIGHT` to the calibration"
        problems.append(Problem(file, "its calibration looks like one for another size", mend))
    for box in (*sample.targets, *sample.others):
        left, top, right, bottom = box.bounds(sample.camera.matrix, sample.camera.width, sample.camera.height)
        if right - left < 1 or bottom - top < 1:
            problems.append(
                Problem(file, f"the box of {box.name or 'an object'} is out of sight", "remove it")
            )
    return problems


__all__ = ["READERS", "Problem", "SpatialData", "SpatialSample", "check", "read", "read_folder"]
