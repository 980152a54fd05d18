"""What an annotation file says of a picture, whatever its format: regions with a label and an outline.

Coordinates are continuous, in pixels of the upright picture: (0, 0) is the outer corner of its first pixel,
(width, height) that of its last. What lies inside an outline is decided by pycocotools for every format, so
that one polygon is one mask wherever it was drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wildsight.errors import DataError, needs
from wildsight.images import image_size

Split = Literal["train", "validation", "test"]
Rle = Mapping[str, Any]
"""Runs as pycocotools keeps them: ``{"size": [height, width], "counts": bytes}``."""
OUTSIDE = 1.0
"""Pixels that a point may lie outside its picture, as tools round; it is moved to the edge."""
ANEW = "annotate it at its present size, or restore the picture"


@dataclass(frozen=True)
class Place:
    """Where something is said: a file, and the entry in it for messages (``annotation 12``)."""

    file: Path
    entry: str = ""

    def error(self, what: str, hint: str) -> DataError:
        """The fault of this entry."""
        return DataError(f"{self.entry} {what}".strip(), where=self.file, hint=hint)


@dataclass(frozen=True)
class Region:
    """A part of a picture.

    Attributes:
        label: its class.
        rle: its outline; None where it is a box, a line or a point.
        entry: where it is said, for messages.
    """

    label: str
    rle: Rle | None
    entry: str = ""


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture with what is said of it.

    Attributes:
        image: the file.
        size: (width, height), pixels, upright.
        regions: its parts, in the file's order.
        answers: question -> words about the whole picture (Label Studio's choices, LabelMe's flags).
        split: the part of the set's own protocol; None where it has none.
    """

    image: Path
    size: tuple[int, int]
    regions: tuple[Region, ...] = ()
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: Split | None = None


@dataclass(frozen=True)
class Annotated:
    """A set of annotated pictures.

    Attributes:
        root: the folder that paths are named from; all pictures lie below it.
        pictures: in the file's order.
        classes: the declared class names; those in use where the format declares none.
        spare: pictures that no annotation names: they are left out.
        place: the annotation file or folder.
    """

    root: Path
    pictures: tuple[AnnotatedPicture, ...]
    classes: tuple[str, ...]
    place: Path
    spare: tuple[Path, ...] = ()


def coco_masks() -> Any:
    """The module ``pycocotools.mask``.

    Raises:
        ConfigError: it is not installed.
    """
    with needs("pycocotools", "annotations"):
        import pycocotools.mask
    return pycocotools.mask


def entries(value: Any, place: Place, kind: str) -> list[Any]:
    """A list in a JSON file.

    Raises:
        DataError: it is none.
    """
    if not isinstance(value, list):
        raise place.error(f"holds no list of {kind}", "export it again")
    return value


def of_polygons(polygons: Iterable[Any], size: tuple[int, int], place: Place) -> Rle:
    """The union of closed outlines.

    Args:
        polygons: each x, y, x, y, ... or [[x, y], ...], pixels.
        size: (width, height) of the picture.
        place: for messages.

    Raises:
        DataError: fewer than three points, what is no number, a point outside, or an area of no pixel.
    """
    flat = [_inside(_points(polygon, place), size, place).ravel().tolist() for polygon in polygons]
    if not flat:
        raise place.error("has no polygon", "draw it, or delete the entry")
    masks = coco_masks()
    merged: Rle = masks.merge(masks.frPyObjects(flat, size[1], size[0]))
    return _some(merged, place)


def _points(polygon: Any, place: Place) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(polygon, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise place.error("has a polygon of what is no number", "export it again") from error
    if numbers.size % 2 or numbers.size < 6:
        raise place.error(
            f"has a polygon of {numbers.size} numbers, not of three points or more", "draw it anew"
        )
    if not np.isfinite(numbers).all():
        raise place.error("has a polygon with a point that is not finite", "draw it anew")
    return numbers.reshape(-1, 2)


def _inside(points: NDArray[np.float64], size: tuple[int, int], place: Place) -> NDArray[np.float64]:
    over = max(-points.min(), (points - size).max())
    if over > OUTSIDE:
        what = f"reaches {over:.0f} pixels outside its picture of {size[0]} x {size[1]}"
        raise place.error(what, "draw it inside, or annotate the picture at its present size")
    return np.clip(points, 0, size)


def _some(rle: Rle, place: Place) -> Rle:
    if not coco_masks().area(rle):
        raise place.error("marks no pixel", "draw it, or delete it")
    return rle


def of_counts(counts: Any, declared: Any, size: tuple[int, int], place: Place) -> Rle:
    """Runs of COCO, as a list or compressed.

    Raises:
        DataError: runs of another size than the picture's, or damaged ones.
    """
    if declared != [size[1], size[0]]:
        what = f"has runs for [height, width] {declared}, its picture is {size[0]} x {size[1]}"
        raise place.error(what, ANEW)
    runs = counts if isinstance(counts, list) else _uncompressed(counts)
    whole = all(isinstance(n, int) and n >= 0 for n in runs)
    if not whole or sum(runs) != size[0] * size[1]:
        raise place.error("has damaged runs: they do not fill the picture", "export it again")
    made: Rle = coco_masks().frPyObjects({"size": declared, "counts": runs}, size[1], size[0])
    return _some(made, place)


def _uncompressed(text: Any) -> list[int]:
    """COCO's compressed runs as numbers; ``[-1]`` where they are damaged.

    pycocotools reads runs that are too short without a word, and gives what the memory held before.
    """
    runs: list[int] = []
    value = shift = 0
    for code in text.encode() if isinstance(text, str) else bytes(text or b""):
        code -= 48
        if not 0 <= code < 64:
            return [-1]
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= 1 << shift if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if runs and not shift else [-1]


def of_mask(mask: NDArray[np.bool_], place: Place) -> Rle:
    """A drawn mask, [H, W] bool.

    Raises:
        DataError: it is empty.
    """
    made: Rle = coco_masks().encode(np.asfortranarray(mask.astype(np.uint8)))
    return _some(made, place)


def united(regions: Sequence[Region]) -> Rle:
    """The union of outlines, which all are of one size."""
    made: Rle = coco_masks().merge([dict(region.rle or {}) for region in regions])
    return made


def mask_of(rle: Rle) -> NDArray[np.bool_]:
    """[H, W] bool."""
    return np.asarray(coco_masks().decode(dict(rle)), bool)


def find_picture(name: str, bases: Sequence[Path], root: Path, place: Place) -> Path:
    """The picture that an entry names, in either notation of paths.

    Args:
        name: as written; of a URL or a whole path the last part counts.
        bases: folders to look in, in order; ``name`` is tried before its last part alone.
        root: it has to lie below.
        place: for messages.

    Raises:
        DataError: it is in none of them.
    """
    written = PureWindowsPath(name)
    for wanted in dict.fromkeys((written.as_posix(), written.name)):
        for base in bases:
            path = Path(os.path.normpath(base / wanted))
            if wanted and path.is_relative_to(root) and path.is_file():
                return path
    raise place.error(f"names the picture {name!r}, which is not there", f"put it into {bases[0]}")


def checked_size(image: Path, declared: tuple[Any, Any] | None, place: Place) -> tuple[int, int]:
    """(width, height) of a picture.

    Raises:
        DataError: the annotation says another size.
        ImageError: it cannot be read.
    """
    size = image_size(image)
    if declared is not None and declared != size:
        what = f"is for {declared[0]} x {declared[1]}, its picture {image.name} is {size[0]} x {size[1]}"
        raise place.error(what, ANEW)
    return size


def used_classes(pictures: Iterable[AnnotatedPicture]) -> tuple[str, ...]:
    """The labels of all regions, sorted."""
    return tuple(sorted({region.label for picture in pictures for region in picture.regions}))
