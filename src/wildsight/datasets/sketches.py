"""Folders of sketches and photos: class folders, the published list files, and a plain folder.

A plain folder is ``photos/CLASS/*`` and ``sketches/CLASS/*``; ``classes.json`` in it may name the classes of
``{"validation": [...], "test": [...]}``. Without it, a fifth of the classes is kept for the test and a tenth
of the rest for validation, both chosen by the hash of their names.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wildsight.datasets.folders import class_folders, class_name, one_spelling
from wildsight.datasets.lists import read_json, read_names
from wildsight.datasets.sketch_splits import plain, unseen_of
from wildsight.datasets.tables import PictureTable
from wildsight.errors import DataError
from wildsight.images import list_images

SKETCH, PHOTO = 0, 1
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
_FOLDERS = {SKETCH: ("sketches", "sketch"), PHOTO: ("photos", "photo")}


@dataclass(frozen=True)
class Item:
    """One picture: ``modality`` is `SKETCH` or `PHOTO`, ``split`` train, validation or test."""

    file: Path
    label: str
    modality: int
    split: str


Found = list[tuple[Path, str, int]]


def _class_folders(root: Path, names: Sequence[str], modality: int) -> Found:
    """Pictures of ``<name>/CLASS/``, for the first of ``names`` that is there."""
    for name in names:
        folders = class_folders(root / name)
        if folders:
            return [(f, label, modality) for label, folder in folders for f in list_images(folder)]
    raise DataError(f"holds no {names[0]}/CLASS folders", where=root, hint="see the layouts in the docs")


def _both(root: Path) -> Found:
    return [found for kind in (SKETCH, PHOTO) for found in _class_folders(root, _FOLDERS[kind], kind)]


def _hashed(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int(hashlib.sha256(os.fsencode(plain(name))).hexdigest()[:12], 16) / 16**12


def _first(names: Iterable[str], share: float) -> set[str]:
    ordered = sorted(names, key=_hashed)
    return set(ordered[: max(1, math.floor(len(ordered) * share))])


def _assign(found: Found, test: Iterable[str], validation: Iterable[str] | None = None) -> list[Item]:
    """Splits by class; validation classes are taken from those that are not tested."""
    tested = set(test)
    held = set(validation) if validation is not None else _held({c for _, c, _ in found} - tested)
    parts = {name: "test" if name in tested else "validation" for name in tested | held}
    return [Item(file, name, kind, parts.get(name, "train")) for file, name, kind in found]


def _held(seen: set[str]) -> set[str]:
    return _first(seen, VALIDATION_SHARE) if len(seen) > 4 else set()


def plain_folder(root: Path) -> list[Item]:
    """``photos/CLASS/*`` and ``sketches/CLASS/*``, split by ``classes.json`` or by the hash of the names."""
    found = _both(root)
    names = {name for _, name, _ in found}
    one_spelling((name, file.parent) for file, name, _ in found)
    file = root / "classes.json"
    if not file.is_file():
        return _assign(found, _first(names, TEST_SHARE))
    listed = _listed(file)
    unknown = [n for part in listed.values() for n in part if n not in names]
    if unknown:
        raise DataError(f"names the class {unknown[0]!r}, which has no folder", where=file, hint="correct it")
    return _assign(found, listed.get("test", []), listed.get("validation"))


def _listed(file: Path) -> dict[str, list[str]]:
    """The classes that ``classes.json`` names for validation and test."""
    value = read_json(file)
    if not isinstance(value, dict) or not all(isinstance(part, list) for part in value.values()):
        hint = 'write {"validation": ["name"], "test": ["name"]}'
        raise DataError("names no classes for validation and test", where=file, hint=hint)
    return {part: [class_name(str(name)) for name in names] for part, names in value.items()}


def of_table(table: PictureTable) -> list[Item]:
    """A CSV of ``image``, ``label``, ``modality`` (sketch or photo), perhaps ``split``; else split by class.

    Raises:
        DataError: another modality, or a missing value.
    """
    kinds = {"sketch": SKETCH, "photo": PHOTO}
    found: Found = []
    for row in table.need("image", "label", "modality").rows:
        word = row.values["modality"].lower()
        if word not in kinds:
            what = f"line {row.number} has the unknown modality {row.values['modality']!r}"
            raise DataError(what, where=table.file, hint="write sketch or photo")
        found.append((row.image, class_name(row.values["label"]), kinds[word]))
    one_spelling((name, table.file) for _, name, _ in found)
    if all(row.split for row in table.rows):
        return [Item(*own, str(row.split)) for own, row in zip(found, table.rows, strict=True)]
    return _assign(found, _first({name for _, name, _ in found}, TEST_SHARE))


def by_list(split: str) -> Callable[[Path], list[Item]]:
    """A reader of class folders under one of the published class lists."""

    def read(root: Path) -> list[Item]:
        found = _both(root)
        return _assign(found, unseen_of(split, {name for _, name, _ in found}))

    return read


def pacs(root: Path) -> list[Item]:
    """PACS's domain folders: sketches against the photographs; the other two styles are left aside."""
    found = [
        f
        for kind, name in ((SKETCH, "sketch"), (PHOTO, "photo"))
        for f in _class_folders(root, (name,), kind)
    ]
    return _assign(found, unseen_of("pacs", {name for _, name, _ in found}), ())


_LISTS = {
    "train": ("*sketch*_train.txt", "*png_ready*_train.txt", "*photo*_train.txt", "*ImageResized*_train.txt"),
    "validation": ("*sketch*_test.txt", "*png_ready*_test.txt"),
    "test": ("*sketch*_zero.txt", "*png_ready*_zero.txt", "*photo*_zero.txt", "*ImageResized*_zero.txt"),
}


def list_files(root: Path) -> list[Item]:
    """The field's list files, ``<relative path> <label>`` a line, in ``root`` or one folder below it.

    The class is the picture's folder; the number is a check alone, since one published list has its numbers
    multiplied and in another order. The ``test`` sketch list is of seen classes: it serves for validation.
    """
    items: dict[tuple[Path, str], Item] = {}
    for split, patterns in _LISTS.items():
        for file in sorted({f for pattern in patterns for f in root.rglob(pattern)}):
            kind = PHOTO if "photo" in file.name or "ImageResized" in file.name else SKETCH
            for item in _lines(root, file, kind, split):
                items.setdefault((item.file, split), item)
    if not items:
        raise DataError("holds no list files (*_train.txt, *_zero.txt)", where=root, hint="check the path")
    return list(items.values())


def _lines(root: Path, file: Path, kind: int, split: str) -> list[Item]:
    items, numbers = [], dict[str, str]()
    for line in read_names(file):
        path, _, number = line.rpartition(" ")
        name = Path(path).parent.name
        if numbers.setdefault(name, number) != number:
            raise DataError(f"gives class {name!r} two numbers", where=file, hint="use another copy")
        items.append(Item(root / path, name, kind, split))
    if len(set(numbers.values())) != len(numbers):
        raise DataError("gives two classes one number", where=file, hint="use another copy")
    return items
