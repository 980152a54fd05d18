"""KITTI's object folder: frames, labels and calibrations, as numbers in KITTI's own camera coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wildsight.datasets.faults import Faults
from wildsight.datasets.lists import read_lines, read_text
from wildsight.errors import DataError
from wildsight.images import list_images

COLUMNS = 15
NOT_AN_OBJECT = ("dontcare", "ignore", "void")


@dataclass(frozen=True)
class KittiFrame:
    """One picture with its files.

    Attributes:
        image: the picture of camera 2.
        labels: its label file.
        calibration: its calibration file.
        split: by ``ImageSets`` (``val`` is for testing); None where the set has no lists.
    """

    image: Path
    labels: Path
    calibration: Path
    split: Literal["train", "test"] | None


@dataclass(frozen=True)
class KittiLabel:
    """One object.

    Attributes:
        name: its class, in lower case.
        size: height, width, length, metres.
        place: x, y, z of the middle of its bottom before the reference camera, metres.
        yaw: about the vertical, radians.
        where: its line, for messages.
    """

    name: str
    size: tuple[float, float, float]
    place: tuple[float, float, float]
    yaw: float
    where: str


def frames(root: Path) -> tuple[list[KittiFrame], int]:
    """``[training/]image_2 label_2 calib``, and optionally ``ImageSets/{train,val}.txt``.

    Returns:
        (frames, how many pictures are in neither list).

    Raises:
        DataError: a missing folder.
    """
    base = root / "training" if (root / "training").is_dir() else root
    for name in ("image_2", "label_2", "calib"):
        if not (base / name).is_dir():
            raise DataError("no such folder", where=base / name, hint="name KITTI's object folder")
    train, test = (stems(root / "ImageSets" / f"{name}.txt") for name in ("train", "val"))
    found, left = [], 0
    for file in list_images(base / "image_2"):
        split: Literal["train", "test"] | None = None
        if train:
            split = "test" if file.stem in test else "train"
            if file.stem not in train | test:
                left += 1
                continue
        elif file.stem in test:
            split = "test"
        text = f"{file.stem}.txt"
        found.append(KittiFrame(file, base / "label_2" / text, base / "calib" / text, split))
    return found, left


def stems(file: Path) -> set[str]:
    """The words of a list; none where it is missing."""
    return set(read_text(file).split()) if file.is_file() else set()


def read_labels(file: Path, faults: Faults | None = None) -> list[KittiLabel]:
    """The objects of a label file.

    Raises:
        DataError: the file cannot be read, or a line does not fit.
    """
    faults = faults or Faults()
    found: list[KittiLabel | None] = []
    for number, line in read_lines(file):
        with faults.each(file):
            found.append(read_label(line.split(), f"{file}:{number}"))
    return [label for label in found if label is not None]


def read_label(columns: Sequence[Any], where: str) -> KittiLabel | None:
    """The object of a label line's columns; None for what is no object.

    Raises:
        DataError: columns that are missing or no numbers.
    """
    if len(columns) < COLUMNS:
        raise DataError(f"{len(columns)} columns, not {COLUMNS}", where=where, hint="restore the label")
    name = str(columns[0]).lower()
    if name in NOT_AN_OBJECT:
        return None
    try:
        h, w, length, x, y, z, yaw = (float(v) for v in columns[8:15])
    except ValueError as error:
        raise DataError(f"not numbers ({error})", where=where, hint="restore the label") from error
    return KittiLabel(name, (h, w, length), (x, y, z), yaw, where)


def read_calibration_lines(file: Path) -> dict[str, list[float]]:
    """``KEY: numbers`` of every line of a calibration file; other lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line holds something else than numbers.
    """
    rows: dict[str, list[float]] = {}
    for number, line in read_lines(file):
        key, colon, rest = line.partition(":")
        if not colon:
            continue
        try:
            rows[key.strip()] = [float(v) for v in rest.split()]
        except ValueError as error:
            raise DataError(f"line {number} is not numbers", where=file, hint="correct the file") from error
    return rows
