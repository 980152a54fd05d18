"""YOLO's text files: one line a region, ``class x y x y ...`` as shares of the picture's width and height."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.datasets.annotations.regions import (
    Annotated,
    AnnotatedPicture,
    Place,
    Region,
    Split,
    checked_size,
    of_polygons,
)
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import class_name, pictures
from wildsight.datasets.lists import read_lines, read_names, read_text
from wildsight.errors import DataError
from wildsight.images import SUFFIXES, list_images

SPLITS: tuple[tuple[str, Split], ...] = (
    ("train", "train"), ("val", "validation"), ("valid", "validation"), ("test", "test"),
)  # fmt: skip
LAYOUT = "lay it out as images/ and labels/ with data.yaml or classes.txt"


def read(root: Path, faults: Faults) -> Annotated:
    """``data.yaml`` or ``classes.txt``, with ``images/`` and ``labels/`` in either order with the splits.

    Raises:
        DataError: another layout; or a line that does not fit, unless ``faults`` notes it.
    """
    config = _config(root)
    classes = _classes(root, config)
    found: list[AnnotatedPicture] = []
    taken: set[Path] = set()
    for image, split in _images(root, config):
        labels = _labels_of(image, root)
        taken.add(labels)
        with faults.each(labels):
            size = checked_size(image, None, Place(image))
            lines = read_lines(labels) if labels.is_file() else []
            picture = AnnotatedPicture(image, size, (), {}, split)
            found.append(replace(picture, regions=tuple(_regions(lines, picture, classes, labels, faults))))
    if not found:
        raise DataError("holds no pictures in the YOLO layout", where=root, hint=LAYOUT)
    for file in sorted({f for t in taken for f in t.parent.glob("*.txt")} - taken):
        with faults.each(file):
            if file.name != "classes.txt":
                raise DataError(
                    "labels no picture", where=file, hint="add the picture, same stem, or delete it"
                )
    return Annotated(root, tuple(_tested(found)), classes, root)


def _tested(found: list[AnnotatedPicture]) -> list[AnnotatedPicture]:
    """What validates tests where there is no test part: YOLO calls its test pictures so."""
    if any(p.split == "test" for p in found):
        return found
    return [replace(p, split="test") if p.split == "validation" else p for p in found]


def _config(root: Path) -> dict[str, Any]:
    """``data.yaml``, or another file of that ending; empty where there is none."""
    files = sorted((*root.glob("*.yaml"), *root.glob("*.yml")), key=lambda f: (f.stem != "data", f.name))
    if not files:
        return {}
    import yaml

    try:
        value = yaml.safe_load(read_text(files[0]))
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"not a readable YAML file ({text})", where=files[0], hint="correct that place"
        ) from error
    if not isinstance(value, dict) or "names" not in value:
        raise DataError("names no classes", where=files[0], hint="write names: [scratch, dent]")
    return value


def _classes(root: Path, config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("names")
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
        table = {int(key): str(name) for key, name in names.items()}
        names = [table.get(i, f"class {i}") for i in range(max(table, default=-1) + 1)]
    if names is None and (root / "classes.txt").is_file():
        names = read_names(root / "classes.txt")
    if not isinstance(names, list):
        raise DataError("holds no data.yaml and no classes.txt", where=root, hint=LAYOUT)
    return tuple(class_name(str(name)) for name in names)


def _images(root: Path, config: dict[str, Any]) -> Iterator[tuple[Path, Split | None]]:
    """Every picture with its split: by the configuration, by folders, or without a split."""
    named = [(split, config[key]) for key, split in SPLITS if config.get(key)]
    if named:
        for split, places in named:
            for place in places if isinstance(places, list) else [places]:
                yield from ((image, split) for image in _listed(root, config, str(place)))
        return
    for key, split in SPLITS:
        for folder in (root / "images" / key, root / key / "images"):
            yield from ((image, split) for image in pictures(folder))
    yield from ((image, None) for image in pictures(root / "images"))


def _listed(root: Path, config: dict[str, Any], text: str) -> list[Path]:
    """The pictures of a place that the configuration names: a folder, or a list of files."""
    tail = text.replace("\\", "/")
    while tail.startswith(("../", "./")):  # exports of several tools count from a folder beside the file
        tail = tail.partition("/")[2]
    bases = [root / str(config.get("path") or ""), root]
    place = next(
        (p for base in bases for p in (base / text, base / tail) if p.exists() and _within(p, root)), None
    )
    if place is None:
        raise DataError(f"data.yaml names {text!r}, which is not there", where=root, hint="correct it")
    if place.is_dir():
        inner = place / "images"
        return list_images(inner if inner.is_dir() and not pictures(place) else place, recursive=True)
    files = (place.parent / name for name in read_names(place))
    return [file for file in files if file.suffix.lower() in SUFFIXES]


def _within(place: Path, root: Path) -> bool:
    return place.resolve().is_relative_to(root.resolve())


def _labels_of(image: Path, root: Path) -> Path:
    """The text file of a picture: ``labels`` in place of the last ``images``, or beside it."""
    parts = list(image.relative_to(root).parts) if image.is_relative_to(root) else []
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        parts[place] = "labels"
        return root.joinpath(*parts).with_suffix(".txt")
    return image.with_suffix(".txt")


def _regions(
    lines: list[tuple[int, str]],
    picture: AnnotatedPicture,
    classes: tuple[str, ...],
    file: Path,
    faults: Faults,
) -> Iterator[Region]:
    for number, line in lines:
        made = None
        with faults.each(file):
            made = _region(line.split(), picture, classes, Place(file, f"line {number}"))
        if made is not None:
            yield made


def _region(words: list[str], picture: AnnotatedPicture, classes: tuple[str, ...], place: Place) -> Region:
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise place.error("holds what is no number", "write: class x y x y ...") from error
    if len(numbers) < 5:
        raise place.error(
            f"has {len(numbers)} numbers", "write: class x y x y ..., or class x y width height"
        )
    label = numbers[0]
    if not 0 <= label < len(classes) or label != int(label):
        raise place.error(
            f"is of the unknown class {words[0]}", f"use 0 to {len(classes) - 1}, or add its name"
        )
    name = classes[int(label)]
    if len(numbers) <= 6:  # a box, perhaps with a score behind it
        return Region(name, None, place.entry)
    points = numbers[1 : 1 + 2 * ((len(numbers) - 1) // 2)]
    return Region(name, of_polygons([points.reshape(-1, 2) * picture.size], picture.size, place), place.entry)
