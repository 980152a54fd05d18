"""Readers of sketch-photo sets: class folders, the published list files, and a plain folder.

A plain folder is ``photos/CLASS/*`` and ``sketches/CLASS/*``; ``classes.json`` in it may name the classes of
``{"validation": [...], "test": [...]}``. Without it, a fifth of the classes is kept for the test and a tenth
of the rest for validation, both chosen by the hash of their names.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildsight.errors import DataError, WildSightError
from wildsight.files import digest_of, read_json, sha256
from wildsight.images import list_images, load_image
from wildsight.retrieval.splits import UNSEEN, plain, unseen_of
from wildsight.sources import Problem

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


@dataclass(frozen=True)
class RetrievalData:
    """An indexed set.

    Attributes:
        name: the reader's name.
        root: the folder read.
        items: all pictures.
        protocol: split rule, counts and a ``hash`` of relative paths and splits; printed with scores.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    protocol: dict[str, Any]

    def part(self, split: str, modality: int | None = None) -> list[Item]:
        """The pictures of a split, of one modality or of both."""
        return [i for i in self.items if i.split == split and modality in (None, i.modality)]

    def classes(self, split: str) -> list[str]:
        """The classes of a split, sorted."""
        return sorted({i.label for i in self.items if i.split == split})


Found = list[tuple[Path, str, int]]


def _class_folders(root: Path, names: Sequence[str], modality: int) -> Found:
    """Pictures of ``<name>/CLASS/``, for the first of ``names`` that is there."""
    for name in names:
        folders = sorted(p for p in (root / name).glob("*") if p.is_dir()) if (root / name).is_dir() else []
        if folders:
            return [(f, folder.name, modality) for folder in folders for f in list_images(folder)]
    raise DataError(f"holds no {names[0]}/CLASS folders", where=root, hint="see the layouts in the docs")


def _both(root: Path) -> Found:
    return [found for kind in (SKETCH, PHOTO) for found in _class_folders(root, _FOLDERS[kind], kind)]


def _hashed(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int(hashlib.sha256(plain(name).encode()).hexdigest()[:12], 16) / 16**12


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


def _plain_folder(root: Path) -> list[Item]:
    found = _both(root)
    names = {name for _, name, _ in found}
    file = root / "classes.json"
    if not file.is_file():
        return _assign(found, _first(names, TEST_SHARE))
    listed: dict[str, list[str]] = read_json(file)
    unknown = [n for part in listed.values() for n in part if n not in names]
    if unknown:
        raise DataError(f"names the class {unknown[0]!r}, which has no folder", where=file, hint="correct it")
    return _assign(found, listed.get("test", []), listed.get("validation"))


def _by_list(split: str) -> Callable[[Path], list[Item]]:
    """A reader of class folders under one of the published class lists."""

    def read(root: Path) -> list[Item]:
        found = _both(root)
        return _assign(found, unseen_of(split, {name for _, name, _ in found}))

    return read


def _pacs(root: Path) -> list[Item]:
    """Domain folders: sketches against the photographs; the other two styles are left aside."""
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


def _list_files(root: Path) -> list[Item]:
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
    for line in filter(str.strip, file.read_text(encoding="utf-8").splitlines()):
        path, _, number = line.strip().rpartition(" ")
        name = Path(path).parent.name
        if numbers.setdefault(name, number) != number:
            raise DataError(f"gives class {name!r} two numbers", where=file, hint="use another copy")
        items.append(Item(root / path, name, kind, split))
    if len(set(numbers.values())) != len(numbers):
        raise DataError("gives two classes one number", where=file, hint="use another copy")
    return items


READERS: dict[str, Callable[[Path], list[Item]]] = {
    "folder": _plain_folder,
    "sketchy-1": _by_list("sketchy-1"),
    "sketchy-2": _by_list("sketchy-2"),
    "tu-berlin": _by_list("tu-berlin"),
    "quickdraw": _by_list("quickdraw"),
    "pacs": _pacs,
    "lists": _list_files,
}


def read(name: str, root: Path) -> RetrievalData:
    """Index a set.

    Raises:
        DataError: the folder does not fit the layout, or a split lacks sketches or photos.
    """
    items = READERS[name](root)
    for split in ("train", "test"):
        kinds = {i.modality for i in items if i.split == split}
        if kinds != {SKETCH, PHOTO}:
            lacking = "no class" if not kinds else "sketches or photos missing"
            raise DataError(f"the {split} part has {lacking}", where=root, hint="add classes with both")
    both = {i.label for i in items if i.split == "train"} & {i.label for i in items if i.split == "test"}
    if both:
        raise DataError(f"class {min(both)!r} is in training and test", where=root, hint="correct the split")
    return RetrievalData(name, root, tuple(items), _protocol(name, root, items))


def _protocol(name: str, root: Path, items: Sequence[Item]) -> dict[str, Any]:
    rows = [[i.file.relative_to(root).as_posix(), i.label, i.modality, i.split] for i in items]
    counts = {
        split: len({i.label for i in items if i.split == split}) for split in ("train", "validation", "test")
    }
    return {
        "reader": name,
        "split": "published class list" if name in UNSEEN else "by class",
        **{f"{split} classes": count for split, count in counts.items()},
        "test sketches": sum(i.split == "test" and i.modality == SKETCH for i in items),
        "test photos": sum(i.split == "test" and i.modality == PHOTO for i in items),
        "gallery": "all test photos, duplicates kept",
        "hash": digest_of(rows)[:16],
    }


def check(data: RetrievalData) -> list[Problem]:
    """Every fault found; reads each picture once.

    Finds classes with one modality alone, unreadable files, and the same file in two splits.
    """
    problems = []
    for split in ("train", "validation", "test"):
        kinds = [{i.label for i in data.part(split, kind)} for kind in (SKETCH, PHOTO)]
        for name in sorted(kinds[0] ^ kinds[1]):
            lacking = "photos" if name in kinds[0] else "sketches"
            problems.append(Problem(data.root, f"class {name} ({split}) has no {lacking}", "add some"))
    first: dict[str, Item] = {}
    for item in data.items:
        try:
            load_image(item.file)
            known = first.setdefault(sha256(item.file), item)
        except (WildSightError, OSError) as error:
            problems.append(Problem(item.file, f"cannot be read ({error})", "restore or remove it"))
            continue
        if known.split != item.split:
            problems.append(Problem(item.file, f"is also in {known.split}: {known.file}", "remove one"))
    return problems
