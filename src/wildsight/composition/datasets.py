"""Readers of the composition benchmarks and of plain folders, and a check of the data before training.

`READERS` maps the name in a source (``ut-zappos:/data/ut-zap50k``) to its layout; nothing is downloaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wildsight.composition import layouts
from wildsight.composition.layouts import Listing, Pair, PairSample, Split
from wildsight.errors import DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import load_image
from wildsight.sources import Problem

__all__ = ["READERS", "PairData", "PairSample", "check", "read"]


@dataclass(frozen=True)
class PairData:
    """An indexed set of pictures with a pair each.

    Attributes:
        name: the reader's name.
        root: the folder read.
        samples: all samples, in the layout's order.
        attributes, objects: the words, sorted.
        pairs: the pairs of each split.
        protocol: split rule, counts and a ``hash`` of paths, pairs and splits; printed with scores.
    """

    name: str
    root: Path
    samples: tuple[PairSample, ...]
    attributes: tuple[str, ...]
    objects: tuple[str, ...]
    pairs: dict[Split, tuple[Pair, ...]]
    protocol: dict[str, Any]

    def part(self, split: Split) -> tuple[PairSample, ...]:
        """The samples of one split."""
        return tuple(s for s in self.samples if s.split == split)

    @property
    def seen(self) -> tuple[Pair, ...]:
        """The pairs that training shows, in the layout's order."""
        return self.pairs["train"]

    def candidates(self, split: Split) -> tuple[Pair, ...]:
        """Closed world: the seen pairs and those of ``split``; validation's own stay out of the test."""
        return tuple(sorted({*self.seen, *self.pairs[split]}))


LAYOUTS: dict[str, Callable[[Path], Listing]] = {
    "mit-states": layouts.natural,
    "ut-zappos": layouts.natural,
    "cgqa": layouts.natural,
    "vaw-czsl": layouts.natural,
    "fruit-state": layouts.stated,
    "fruit-state-b": partial(layouts.rotated, choice=1),
    "fruit-state-c": partial(layouts.rotated, choice=2),
    "pacs": layouts.stated,
    "grocery81": layouts.grocery,
    "folder": layouts.plain,
}
GRIDS: dict[str, tuple[int, int]] = {"mit-states": (115, 245), "ut-zappos": (16, 12), "cgqa": (413, 674)}
"""Attributes and objects that the standard version of a benchmark has."""


def read(name: str, path: str | Path) -> PairData:
    """Index a set on disk.

    Args:
        name: a key of `READERS`.
        path: its root folder.

    Raises:
        DataError: an unknown name, a missing folder, a folder name without a separator, an empty pair, a
            leak between splits, no training picture, or another layout.
    """
    if name not in LAYOUTS:
        raise DataError(f"no reader is called {name!r}", hint=f"use one of {', '.join(LAYOUTS)}")
    root = Path(path)
    if not root.is_dir():
        raise DataError("no such folder", where=root, hint="check the path")
    found = LAYOUTS[name](root)
    if not found.samples:
        hint = (layouts.plain if name == "folder" else layouts.natural).__doc__ or ""
        raise DataError("holds no pairs of pictures", where=root, hint=f"lay it out as {hint}")
    if not any(s.split == "train" for s in found.samples):
        raise DataError("no training picture", where=root, hint="add some")
    return _indexed(name, root, found)


READERS: dict[str, Callable[[Path], PairData]] = {name: partial(read, name) for name in LAYOUTS}


def _indexed(name: str, root: Path, found: Listing) -> PairData:
    every = {pair for many in found.pairs.values() for pair in many}
    attributes = tuple(sorted({a for a, _ in every}))
    objects = tuple(sorted({o for _, o in every}))
    seen = set(found.pairs["train"])
    counts = dict(Counter(s.split for s in found.samples))
    unseen = {s: sum(p not in seen for p in found.pairs[s]) for s in ("val", "test")}
    rows = sorted([s.image.relative_to(root).as_posix(), *s.pair, s.split] for s in found.samples)
    protocol = {
        "split": found.rule,
        "pictures": counts,
        "attributes": len(attributes),
        "objects": len(objects),
        "seen pairs": len(seen),
        "unseen pairs": unseen,
        "hash": digest_of(rows),
    }
    return PairData(name, root, found.samples, attributes, objects, dict(found.pairs), protocol)


def require_files(data: PairData) -> None:
    """Refuse a set whose lists name pictures that are not there.

    Raises:
        DataError: with the first such picture and how many there are.
    """
    absent = [s.image for s in data.samples if not s.image.is_file()]
    if absent:
        what = f"named by the pair list, but not there ({len(absent)} such pictures)"
        raise DataError(what, where=absent[0], hint="restore them, or take them off the list")


def check(data: PairData) -> list[Problem]:
    """Every fault found in a set; decodes each picture once.

    Finds: pictures that are missing or unreadable, the same picture in two splits or under two pairs,
    declared pairs without pictures, test words that training never shows, an evaluation without unseen
    pairs, and a benchmark whose vocabulary is not that of its standard version.
    """
    return [*_files(data), *_duplicates(data), *_empty(data), *_words(data), *_version(data)]


def _files(data: PairData) -> Iterator[Problem]:
    for sample in data.samples:
        try:
            load_image(sample.image)
        except ImageError as error:
            yield Problem(sample.image, error.what, error.hint or "restore it")


def _duplicates(data: PairData) -> Iterator[Problem]:
    first: dict[str, PairSample] = {}
    for sample in data.samples:
        if not sample.image.is_file():
            continue
        twin = first.setdefault(sha256(sample.image), sample)
        name = twin.image.relative_to(data.root)
        if twin.split != sample.split:
            what = f"the same picture as {name}, which is in {twin.split}: the test leaks"
            yield Problem(sample.image, what, "keep it in one split")
        elif twin.pair != sample.pair:
            yield Problem(sample.image, f"the same picture as {name}, of another pair", "keep one pair")


def _empty(data: PairData) -> Iterator[Problem]:
    for split, pairs in data.pairs.items():
        filled = {s.pair for s in data.part(split)}
        for pair in pairs:
            if pair not in filled:
                yield Problem(data.root, f"the {split} pair {' '.join(pair)!r} has no picture", "drop it")


def _words(data: PairData) -> Iterator[Problem]:
    known = [{pair[i] for pair in data.seen} for i in (0, 1)]
    for kind, words, seen in zip(
        ("attribute", "object"), (data.attributes, data.objects), known, strict=True
    ):
        for word in words:
            if word not in seen:
                yield Problem(data.root, f"the {kind} {word!r} is never trained", "add training pictures")
    if not any(pair not in set(data.seen) for pair in data.pairs["test"]):
        hint = f"list some in {layouts.UNSEEN_FILE}"
        yield Problem(data.root, "the test has no unseen pair", hint)


def _version(data: PairData) -> Iterator[Problem]:
    grid = GRIDS.get(data.name)
    if grid and grid != (len(data.attributes), len(data.objects)):
        found = f"{len(data.attributes)} attributes and {len(data.objects)} objects"
        what = f"has {found}, the standard version {grid[0]} and {grid[1]}"
        yield Problem(data.root, what, "never compare figures across versions")
