"""Label Studio's JSON: tasks with polygons, brush strokes, ellipses and choices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from wildsight.datasets.annotations import brush
from wildsight.datasets.annotations.regions import (
    Annotated,
    AnnotatedPicture,
    Place,
    Region,
    Rle,
    checked_size,
    find_picture,
    of_mask,
    of_polygons,
    used_classes,
)
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import class_name
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError
from wildsight.images import SUFFIXES, list_images

ROUND = 64
"""Corners of what stands for an ellipse."""
UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
HINT = "export the project as JSON"


def read(file: Path, faults: Faults) -> Annotated:
    """``FILE.json`` with its pictures beside it or in ``images``; a task that is not annotated is left out.

    Of several annotations the one marked as ground truth counts, else the last that was not cancelled.

    Raises:
        DataError: another content; or a task that does not fit, unless ``faults`` notes it.
    """
    content = read_json(file)
    if not isinstance(content, list) or not all(isinstance(t, dict) for t in content):
        raise DataError("is no list of Label Studio's tasks", where=file, hint=HINT)
    if content and not any("annotations" in task or "data" in task for task in content):
        raise DataError("is in Label Studio's short form", where=file, hint=f"{HINT}, not as JSON-MIN")
    found: list[AnnotatedPicture] = []
    for task in content:
        with faults.each(file):
            results = _results(task)
            if results is not None:
                found.append(_picture(task, results, file, faults))
    named = {picture.image for picture in found}
    spare = tuple(p for p in list_images(file.parent, recursive=True) if p not in named)
    return Annotated(file.parent, tuple(found), used_classes(found), file, spare)


def _results(task: Mapping[str, Any]) -> list[Any] | None:
    """The results that count; None where nobody annotated the task."""
    notes = task.get("annotations") or []
    kept = [n for n in notes if isinstance(n, dict) and not n.get("was_cancelled")]
    if not kept:
        return None
    chosen = next((n for n in kept if n.get("ground_truth")), kept[-1])
    return list(chosen.get("result") or [])


def _picture(task: Mapping[str, Any], results: list[Any], file: Path, faults: Faults) -> AnnotatedPicture:
    place = Place(file, f"task {task.get('id', 'without an id')}")
    data = task.get("data")
    names = [str(v) for v in data.values() if _is_picture(v)] if isinstance(data, dict) else []
    if not names:
        raise place.error("names no picture", HINT)
    bases = (file.parent, file.parent / "images")
    image = _found(names[0], bases, file.parent, place)
    declared = {(r.get("original_width"), r.get("original_height")) for r in results if isinstance(r, dict)}
    size = checked_size(image, next((d for d in declared if all(d)), None), place)
    regions: list[Region] = []
    answers: dict[str, tuple[str, ...]] = {}
    for result in results:
        with faults.each(file):
            if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
                raise place.error("has a result without a value", HINT)
            if result.get("type") == "choices":
                answers[str(result.get("from_name"))] = tuple(result["value"].get("choices") or ())
            regions += _region(
                result, size, Place(file, f"{place.entry}, region {result.get('id', '')}".strip())
            )
    return AnnotatedPicture(image, size, tuple(regions), answers)


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and Path(_name(value)).suffix.lower() in SUFFIXES


def _name(text: str) -> str:
    """The path in an address: of local storage behind ``?d=``, else of the address itself."""
    address = urlsplit(text)
    inner = parse_qs(address.query).get("d")
    return unquote(inner[0] if inner else address.path or text)


def _found(text: str, bases: tuple[Path, ...], root: Path, place: Place) -> Path:
    name = _name(text)
    bare = UPLOADED.sub("", Path(name).name)
    try:
        return find_picture(name.lstrip("/"), bases, root, place)
    except DataError:
        if bare == Path(name).name:
            raise
    return find_picture(bare, bases, root, place)


def _region(result: Mapping[str, Any], size: tuple[int, int], place: Place) -> Iterator[Region]:
    """The regions of a result: one a label; none where it marks no part of the picture."""
    value = result["value"]
    kind = str(result.get("type"))
    shape = next((s for s in ("polygon", "brush", "ellipse", "rectangle") if kind.startswith(s)), None)
    if shape is None:
        return
    labels = value.get(kind) or value.get("labels")
    if not labels or not isinstance(labels, list):
        raise place.error("has no label", "give it one")
    rle = _outline(shape, value, size, place)
    for label in labels:
        yield Region(class_name(str(label)), rle, place.entry)


def _outline(shape: str, value: Mapping[str, Any], size: tuple[int, int], place: Place) -> Rle | None:
    if shape == "polygon":
        points = _array(value.get("points"), place)
        return of_polygons([points * size / 100 if points.ndim == 2 else points], size, place)
    if shape == "ellipse":
        return of_polygons([_ellipse(value, size, place)], size, place)
    return of_mask(_brushed(value, size, place), place) if shape == "brush" else None


def _array(value: Any, place: Place) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise place.error("has points that are no numbers", HINT) from error


def _ellipse(value: Mapping[str, Any], size: tuple[int, int], place: Place) -> np.ndarray:
    numbers = _array([value.get(k, 0) for k in ("x", "y", "radiusX", "radiusY", "rotation")], place)
    x, y, across, down = numbers[:4] * np.array([*size, *size]) / 100
    angles = np.linspace(0, 2 * math.pi, ROUND, endpoint=False)
    turn = math.radians(float(numbers[4]))
    flat, high = across * np.cos(angles), down * np.sin(angles)
    sine, cosine = math.sin(turn), math.cos(turn)
    return np.stack([x + flat * cosine - high * sine, y + flat * sine + high * cosine], axis=1)


def _brushed(value: Mapping[str, Any], size: tuple[int, int], place: Place) -> np.ndarray:
    try:
        values = brush.decode(value["rle"], 4 * size[0] * size[1])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise place.error(f"has runs that cannot be read ({error})", HINT) from error
    return values.reshape(size[1], size[0], 4)[..., 3] > 0
