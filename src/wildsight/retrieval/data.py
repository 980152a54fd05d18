"""The retrieval task's data: how a source becomes sketches and photos, and a check before training.

`READERS` maps the name in a source (``sketchy-1:/data/sketchy``) to its reader; the folders themselves are
read in `wildsight.datasets.sketches`. Nothing is ever downloaded, and nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wildsight.datasets import formats, sketches
from wildsight.datasets.sketch_splits import UNSEEN
from wildsight.datasets.sketches import PHOTO, SKETCH, Item
from wildsight.datasets.source import DataSource, read_named, write_pictures
from wildsight.datasets.source import world_folder as drawn_folder
from wildsight.errors import DataError, WildSightError
from wildsight.files import digest_of, sha256
from wildsight.images import load_image
from wildsight.sources import Problem

__all__ = [
    "PHOTO", "READERS", "SKETCH", "Item", "RetrievalData", "check", "check_source", "read", "read_source",
    "world_folder",
]  # fmt: skip

WORLD_SETTINGS = {"seed": 0, "size": 96, "per_class": 24, "unseen": 5}


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


LAYOUTS: dict[str, Callable[[Path], list[Item]]] = {
    "folder": sketches.plain_folder,
    **{name: sketches.by_list(name) for name in ("sketchy-1", "sketchy-2", "tu-berlin", "quickdraw")},
    "pacs": sketches.pacs,
    "lists": sketches.list_files,
}


def read(name: str, root: str | Path) -> RetrievalData:
    """Index a set.

    Raises:
        DataError: an unknown name, a missing folder, one that does not fit the layout, or a split that lacks
            sketches or photos.
    """
    return read_named(READERS, name, root)


def _index(root: Path, *, name: str) -> RetrievalData:
    return _both(name, root, LAYOUTS[name](root))


def _shared(path: Path, *, name: str) -> RetrievalData:
    """A CSV or a set of the hub."""
    table = formats.read_table(name, path)
    return _both(name, table.root, sketches.of_table(table))


def _both(name: str, root: Path, items: list[Item]) -> RetrievalData:
    """The set, whose parts have sketches and photos of classes of their own."""
    for split in ("train", "test"):
        kinds = {i.modality for i in items if i.split == split}
        if kinds != {SKETCH, PHOTO}:
            lacking = "no class" if not kinds else "sketches or photos missing"
            raise DataError(f"the {split} part has {lacking}", where=root, hint="add classes with both")
    both = {i.label for i in items if i.split == "train"} & {i.label for i in items if i.split == "test"}
    if both:
        raise DataError(f"class {min(both)!r} is in training and test", where=root, hint="correct the split")
    return RetrievalData(name, root, tuple(items), _protocol(name, root, items))


READERS: dict[str, Callable[[Path], RetrievalData]] = {
    **{name: partial(_index, name=name) for name in LAYOUTS},
    **{name: partial(_shared, name=name) for name in formats.TABLES},
}


def world_folder() -> Path:
    """The embedded world's sketches and photos as a plain folder, drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION

    return drawn_folder("sketches", WORLD_VERSION, WORLD_SETTINGS, _export)


def _export(folder: Path) -> Path:
    from wildsight.world.sets import sketches as drawn

    sets = drawn(**WORLD_SETTINGS)
    pictures = (
        (f"{side}/{label}/{split}-{number:05d}.png", pixels)
        for split, part in sets.items()
        for side, images, labels in (
            ("photos", part.photos, part.photo_labels),
            ("sketches", part.sketches, part.sketch_labels),
        )
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True))
    )
    held = {"validation": sets["val"], "test": sets["test"]}
    text = json.dumps({k: sorted(set(v.photo_labels)) for k, v in held.items()}, indent=2) + "\n"
    return write_pictures(folder, pictures, lambda: {"classes.json": text})


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


_SOURCE = DataSource(
    READERS,
    lambda: read("folder", world_folder()),
    check,
    files=lambda d: [i.file for i in d.items],
)
read_source = _SOURCE.read
"""The data behind ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder."""
check_source = _SOURCE.problems
"""Every problem found in a source, before any training starts; imports no torch."""
