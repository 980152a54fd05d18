"""LabelMe's JSON files, one a picture: polygons, circles and masks with a label."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.datasets.annotations.regions import (
    Annotated,
    AnnotatedPicture,
    Place,
    Region,
    Rle,
    checked_size,
    entries,
    find_picture,
    of_mask,
    of_polygons,
    united,
    used_classes,
)
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import class_name
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError, ImageError
from wildsight.images import as_picture, list_images

ROUND = 64
"""Corners of what stands for a circle."""
UNDRAWN = ("rectangle", "line", "linestrip", "point", "points")


def read(root: Path, faults: Faults) -> Annotated:
    """``NAME.json`` beside each picture, at any depth; a picture whose file has no shape is good.

    Raises:
        DataError: no such file; or one that does not fit, unless ``faults`` notes it.
    """
    files = sorted(
        f for f in root.rglob("*.json") if not any(p.startswith(".") for p in f.relative_to(root).parts)
    )
    found: list[AnnotatedPicture] = []
    for file in files:
        with faults.each(file):
            content = read_json(file)
            if isinstance(content, dict) and "shapes" in content:
                found.append(_picture(content, file, root, faults))
    if not found and not faults.problems:
        raise DataError("holds no LabelMe file", where=root, hint="put NAME.json beside each picture")
    named = {picture.image for picture in found}
    spare = tuple(p for p in list_images(root, recursive=True) if p not in named)
    return Annotated(root, tuple(found), used_classes(found), root, spare)


def _picture(content: Mapping[str, Any], file: Path, root: Path, faults: Faults) -> AnnotatedPicture:
    place = Place(file)
    image = find_picture(
        str(content.get("imagePath") or ""), (file.parent, file.parent / "images"), root, place
    )
    declared = content.get("imageWidth"), content.get("imageHeight")
    size = checked_size(image, declared if all(declared) else None, place)
    flags = content.get("flags")
    said = tuple(k for k, v in flags.items() if v) if isinstance(flags, dict) else ()
    regions = tuple(_regions(entries(content["shapes"], place, "shapes"), size, file, faults))
    return AnnotatedPicture(image, size, regions, {"flags": said} if said else {})


def _regions(shapes: list[Any], size: tuple[int, int], file: Path, faults: Faults) -> Iterator[Region]:
    """One region a label and group: LabelMe numbers the parts of one thing."""
    groups: dict[Any, Region] = {}
    for number, shape in enumerate(shapes, start=1):
        with faults.each(file):
            place = Place(file, f"shape {number}")
            if not isinstance(shape, dict) or not str(shape.get("label") or "").strip():
                raise place.error("has no label", "give it one")
            label, rle = class_name(str(shape["label"])), _outline(shape, size, place)
            group = shape.get("group_id")
            key: Any = number if group is None or rle is None else (label, group)
            before = groups.get(key)
            groups[key] = Region(label, rle if before is None else _joined(before, rle), place.entry)
    yield from groups.values()


def _joined(before: Region, rle: Rle | None) -> Rle | None:
    return united([before, Region(before.label, rle)])


def _outline(shape: Mapping[str, Any], size: tuple[int, int], place: Place) -> Rle | None:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind in UNDRAWN:
        return None
    if kind == "polygon":
        return of_polygons([points], size, place)
    if kind == "circle":
        return of_polygons([_circle(points, place)], size, place)
    if kind == "mask":
        return of_mask(_bitmap(shape, size, place), place)
    raise place.error(f"is of the unknown type {kind!r}", "draw a polygon")


def _circle(points: Any, place: Place) -> np.ndarray:
    """Corners of the circle around the first point through the second."""
    try:
        (x, y), (at_x, at_y) = points
        radius = math.hypot(at_x - x, at_y - y)
    except (TypeError, ValueError) as error:
        raise place.error("is a circle without its two points", "draw it anew") from error
    angles = np.linspace(0, 2 * math.pi, ROUND, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def _bitmap(shape: Mapping[str, Any], size: tuple[int, int], place: Place) -> np.ndarray:
    """The mask of a shape, which LabelMe keeps as a PNG from its upper left corner on."""
    try:
        left, top = (round(float(v)) for v in shape["points"][0])
        drawn = np.asarray(as_picture(base64.b64decode(shape["mask"])))[..., 0] > 0
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error, ImageError) as error:
        raise place.error("holds a mask that cannot be read", "draw it anew") from error
    whole = np.zeros((size[1], size[0]), bool)
    room = whole[max(top, 0) : top + drawn.shape[0], max(left, 0) : left + drawn.shape[1]]
    if min(left, top) < 0 or room.shape != drawn.shape:
        raise place.error(f"reaches outside its picture of {size[0]} x {size[1]}", "draw it inside")
    room |= drawn
    return whole
