"""COCO's JSON: ``images``, ``annotations`` with polygons or runs, ``categories``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wildsight.datasets.annotations.regions import (
    Annotated,
    AnnotatedPicture,
    Place,
    Region,
    Rle,
    checked_size,
    entries,
    find_picture,
    of_counts,
    of_polygons,
)
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import class_name
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError

PARTS = ("images", "annotations", "categories")


def read(file: Path, faults: Faults) -> Annotated:
    """``FILE.json`` with its pictures beside it, in ``images``, or in a folder that lies beside its own.

    Raises:
        DataError: another content; or an entry that does not fit, unless ``faults`` notes it.
    """
    content = read_json(file)
    lacking = [part for part in PARTS if not isinstance(content, dict) or part not in content]
    if lacking:
        raise DataError(
            f"is no COCO file: it has no {lacking[0]!r}", where=file, hint="export it as COCO JSON"
        )
    images, notes, kinds = (entries(content[part], Place(file), part) for part in PARTS)
    classes = _classes(kinds, file, faults)
    pictures = _pictures(images, file, faults)
    regions: dict[Any, list[Region]] = {number: [] for number in pictures}
    for note in notes:
        with faults.each(file):
            number, region = _region(note, classes, pictures, file)
            regions[number] += [] if region is None else [region]
    found = tuple(
        AnnotatedPicture(p.image, p.size, tuple(regions[number]))
        for number, p in pictures.items()
        if p is not None
    )
    return Annotated(_root(file, found), found, tuple(classes.values()), file)


def _root(file: Path, pictures: tuple[AnnotatedPicture, ...]) -> Path:
    beside = all(p.image.is_relative_to(file.parent) for p in pictures)
    return file.parent if beside else file.parent.parent


def _classes(rows: list[Any], file: Path, faults: Faults) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for row in rows:
        with faults.each(file):
            if not isinstance(row, dict) or "id" not in row or not str(row.get("name", "")).strip():
                raise DataError("a category lacks its id or its name", where=file, hint="export it again")
            names[row["id"]] = class_name(str(row["name"]))
    return names


def _pictures(rows: list[Any], file: Path, faults: Faults) -> dict[Any, AnnotatedPicture | None]:
    """The pictures by id; None where one cannot be used."""
    found: dict[Any, AnnotatedPicture | None] = {}
    for row in rows:
        with faults.each(file):
            if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("file_name"), str):
                raise DataError("an image lacks its id or its file_name", where=file, hint="export it again")
            place = Place(file, f"image {row['id']}")
            if row["id"] in found:
                raise place.error("is there twice", "keep one")
            found[row["id"]] = None
            found[row["id"]] = _picture(row, place)
    return found


def _picture(row: Mapping[str, Any], place: Place) -> AnnotatedPicture:
    folder = place.file.parent
    above = folder.parent
    part = place.file.stem.rpartition("_")[2]
    bases = (folder, folder / "images", above, above / "images", above / part, above / "images" / part)
    image = find_picture(row["file_name"], bases, above, place)
    declared = (row["width"], row["height"]) if "width" in row and "height" in row else None
    return AnnotatedPicture(image, checked_size(image, declared, place))


def _region(
    note: Any, classes: Mapping[Any, str], pictures: Mapping[Any, AnnotatedPicture | None], file: Path
) -> tuple[Any, Region | None]:
    """The image id and the region; no region where the image cannot be used, which is named before."""
    if not isinstance(note, dict):
        raise DataError("an annotation is no object", where=file, hint="export it again")
    place = Place(file, f"annotation {note.get('id', 'without an id')}")
    if note.get("image_id") not in pictures:
        raise place.error(
            f"is of image {note.get('image_id')!r}, which is not listed", "correct its image_id"
        )
    if note.get("category_id") not in classes:
        raise place.error(f"is of the unknown category {note.get('category_id')!r}", "add it to categories")
    picture = pictures[note["image_id"]]
    label = classes[note["category_id"]]
    if picture is None:
        return note["image_id"], None
    return note["image_id"], Region(label, _outline(note.get("segmentation"), picture, place), place.entry)


def _outline(segmentation: Any, picture: AnnotatedPicture, place: Place) -> Rle | None:
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return of_counts(segmentation.get("counts"), segmentation.get("size"), picture.size, place)
    many = entries(segmentation, place, "polygons")
    return of_polygons(many if isinstance(many[0], list) else [many], picture.size, place)
