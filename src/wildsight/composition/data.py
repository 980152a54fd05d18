"""The composition task's data: how a source becomes samples, and a check before training.

`READERS` maps the name in a source (``ut-zappos:/data/ut-zap50k``) to its reader; the folders themselves are
read in `wildsight.datasets.compositions`. Nothing is downloaded, and nothing here imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wildsight.datasets import compositions, formats
from wildsight.datasets.compositions import Listing, Pair, PairSample, Split
from wildsight.datasets.faults import Faults
from wildsight.datasets.source import DataSource, read_named, write_pictures
from wildsight.datasets.source import world_folder as drawn_folder
from wildsight.errors import ConfigError, DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import load_image
from wildsight.sources import Problem

__all__ = [
    "READERS", "Pair", "PairData", "PairSample", "check", "check_source", "read", "read_source",
    "world_folder",
]  # fmt: skip

WORLD_SETTINGS = {"seed": 0, "size": 96, "per_pair": 20, "held_out": 0.25}


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
    "mit-states": compositions.natural,
    "ut-zappos": compositions.natural,
    "cgqa": compositions.natural,
    "vaw-czsl": compositions.natural,
    "fruit-state": compositions.stated,
    "fruit-state-b": partial(compositions.rotated, choice=1),
    "fruit-state-c": partial(compositions.rotated, choice=2),
    "pacs": compositions.stated,
    "grocery81": compositions.grocery,
    "folder": compositions.plain,
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
    return read_named(READERS, name, path)


def _index(root: Path, *, name: str) -> PairData:
    return _trainable(name, root, LAYOUTS[name](root))


def _shared(path: Path, *, name: str) -> PairData:
    """Annotations, a CSV or a set of the hub."""
    source = formats.read(name, path)
    return _trainable(name, source.root, compositions.of_source(source, Faults()))


def _trainable(name: str, root: Path, found: Listing) -> PairData:
    if not found.samples:
        hint = (compositions.plain if name == "folder" else compositions.natural).__doc__ or ""
        raise DataError("holds no pairs of pictures", where=root, hint=f"lay it out as {hint}")
    if not any(s.split == "train" for s in found.samples):
        raise DataError("no training picture", where=root, hint="add some")
    return _indexed(name, root, found)


READERS: dict[str, Callable[[Path], PairData]] = {
    **{name: partial(_index, name=name) for name in LAYOUTS},
    **{name: partial(_shared, name=name) for name in formats.SCHEMES},
}


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


def world_folder(**changed: float) -> Path:
    """The embedded world's compositions as a plain folder, drawn on first use.

    Args:
        changed: those of `WORLD_SETTINGS` that differ: ``seed`` of the drawing and of the unseen pairs,
            ``size`` in pixels, ``per_pair`` training pictures, ``held_out`` share of the pairs.

    Raises:
        ConfigError: another setting, or the cache folder cannot be made.
    """
    unknown = sorted(set(changed) - set(WORLD_SETTINGS))
    if unknown:
        raise ConfigError(f"no setting of the world is called {unknown[0]!r}", hint="see WORLD_SETTINGS")
    settings = {**WORLD_SETTINGS, **changed}
    from wildsight.world import WORLD_VERSION

    return drawn_folder("compositions", WORLD_VERSION, settings, lambda folder: _export(folder, settings))


def _export(folder: Path, settings: dict[str, float]) -> Path:
    from wildsight.world.sets import compositions as drawn

    parts = drawn(
        seed=int(settings["seed"]),
        size=int(settings["size"]),
        per_pair=int(settings["per_pair"]),
        held_out=settings["held_out"],
    )
    pictures = (
        (f"{split}/{attribute}/{name}/{number:05d}.png", pixels)
        for split, part in parts.items()
        for number, (pixels, attribute, name) in enumerate(
            zip(part.images, part.attributes, part.objects, strict=True)
        )
    )
    return write_pictures(folder, pictures)


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
        hint = f"list some in {compositions.UNSEEN_FILE}"
        yield Problem(data.root, "the test has no unseen pair", hint)


def _version(data: PairData) -> Iterator[Problem]:
    grid = GRIDS.get(data.name)
    if grid and grid != (len(data.attributes), len(data.objects)):
        found = f"{len(data.attributes)} attributes and {len(data.objects)} objects"
        what = f"has {found}, the standard version {grid[0]} and {grid[1]}"
        yield Problem(data.root, what, "never compare figures across versions")


_SOURCE = DataSource(
    READERS,
    lambda: read("folder", world_folder()),
    check,
    compositions.of_source,
    files=lambda d: [s.image for s in d.samples],
)
read_source = _SOURCE.read
"""The data behind ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder."""
check_source = _SOURCE.problems
"""Every problem found in a source, before any training starts; imports no torch for plain folders."""
