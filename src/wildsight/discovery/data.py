"""The task's sample and data set, and the labelled half that every published split shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.errors import ConfigError, DataError
from wildsight.files import digest_of

LABELLED_SHARE = 0.5
GCD_RULE = "half of the known classes' training pictures labelled: RandomState(0).choice without replacement"


@dataclass(frozen=True)
class CategorySample:
    """One picture.

    Attributes:
        image: the file.
        label: its class, where a method may see it; None for an unlabelled picture.
        truth: its class, for scoring alone; None where nobody knows.
    """

    image: Path
    label: str | None = None
    truth: str | None = None


@dataclass(frozen=True)
class CategoryData:
    """Labelled pictures of known classes and unlabelled pictures of known and new ones.

    Attributes:
        name: the reader's name.
        root: the folder that paths are shown relative to.
        samples: every picture, in the layout's order.
        known: the known classes, in the order of their numbers.
        new: the new classes, for scoring alone; empty where nobody knows.
        protocol: split rule, counts and a ``hash`` of paths and labels; printed with every score.
        empty: class folders without a picture; they are left out.
    """

    name: str
    root: Path
    samples: tuple[CategorySample, ...]
    known: tuple[str, ...]
    new: tuple[str, ...]
    protocol: dict[str, Any]
    empty: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[CategorySample, ...]:
        """The pictures whose class may be seen."""
        return tuple(s for s in self.samples if s.label is not None)

    @property
    def unlabelled(self) -> tuple[CategorySample, ...]:
        """The pictures to be grouped."""
        return tuple(s for s in self.samples if s.label is None)

    def labels(self) -> NDArray[np.int64]:
        """[N] number of the class that may be seen, -1 for unlabelled pictures."""
        number = {name: i for i, name in enumerate(self.known)}
        return np.array([-1 if s.label is None else number[s.label] for s in self.samples], np.int64)

    def truths(self) -> NDArray[np.int64]:
        """[N] number of the true class, known ones first; -1 where nobody knows."""
        number = {name: i for i, name in enumerate((*self.known, *self.new))}
        return np.array([-1 if s.truth is None else number[s.truth] for s in self.samples], np.int64)

    def relative(self, sample: CategorySample) -> str:
        """A sample's path below the root, with forward slashes; the whole path where it lies elsewhere."""
        inside = sample.image.is_relative_to(self.root)
        return (sample.image.relative_to(self.root) if inside else sample.image).as_posix()

    def limited(self, classes: int | None = None, per_class: int | None = None) -> CategoryData:
        """The first classes (half known, half new) and pictures of each, split anew; for short benches.

        Raises:
            ConfigError: a count below 2, or a set without true classes.
        """
        if classes is None and per_class is None:
            return self
        if not self.new or min(classes or 2, per_class or 2) < 2:
            raise ConfigError(
                "cannot be cut down", where=self.name, hint="give at least 2 of each, and truth"
            )
        half = None if classes is None else classes // 2
        known, new = self.known[:half], self.new[: None if classes is None else classes - classes // 2]
        rows: list[tuple[Path, str]] = []
        for name in (*known, *new):
            own = [s.image for s in self.samples if s.truth == name]
            rows += [(image, name) for image in own[:per_class]]
        return gcd_split(rows, known, new, name=self.name, root=self.root, split=f"cut down; {GCD_RULE}")


def make_data(
    samples: Sequence[CategorySample],
    known: Sequence[str],
    new: Sequence[str],
    *,
    name: str,
    root: Path,
    split: str,
) -> CategoryData:
    """A data set with its protocol.

    Raises:
        DataError: no unlabelled picture.
    """
    data = CategoryData(name, root, tuple(samples), tuple(known), tuple(new), {})
    if not data.unlabelled:
        raise DataError("no unlabelled picture", where=root, hint="put some below `unlabelled`")
    rows = sorted([data.relative(s), s.label or "", s.truth or ""] for s in samples)
    protocol = {
        "split": split,
        "labelled": len(data.labelled),
        "unlabelled": len(data.unlabelled),
        "known classes": len(known),
        "new classes": len(new) if new else "unknown",
        "hash": digest_of([rows, list(known), list(new)]),
    }
    return replace(data, protocol=protocol)


def labelled_half(count: int) -> NDArray[np.int64]:
    """Positions, among the rows of known classes in file order, that are labelled; sorted.

    >>> labelled_half(6).tolist()
    [1, 2, 5]
    """
    # The published splits are defined by this legacy generator.
    chosen = np.random.RandomState(0).choice(count, int(LABELLED_SHARE * count), replace=False)
    return np.sort(chosen)


def gcd_split(
    rows: Sequence[tuple[Path, str]],
    known: Sequence[str],
    new: Sequence[str],
    *,
    name: str,
    root: Path,
    split: str = GCD_RULE,
) -> CategoryData:
    """Label half of the known classes' pictures, by the rule that the published splits share.

    Args:
        rows: (file, true class) of the training pictures, in file order; other classes are left out.
        known: known classes, in the order of their numbers.
        new: new classes, likewise.
        name: the reader's name.
        root: the folder.
        split: the rule, as it is printed.

    Raises:
        DataError: no picture of a known class, or no class at all.
    """
    kept = [(path, label) for path, label in rows if label in {*known, *new}]
    old = [i for i, (_, label) in enumerate(kept) if label in set(known)]
    if len(old) < 2:
        raise DataError("no pictures of the known classes", where=root, hint="check the split and the folder")
    seen = {old[i] for i in labelled_half(len(old))}
    samples = [CategorySample(p, c if i in seen else None, c) for i, (p, c) in enumerate(kept)]
    return make_data(samples, known, new, name=name, root=root, split=split)


def readable(data: CategoryData, ok: np.ndarray) -> tuple[CategoryData, np.ndarray]:
    """The data without its unreadable pictures, and the rows that are left.

    Raises:
        DataError: a known class or everything unlabelled is gone.
    """
    rows = np.flatnonzero(ok)
    if len(rows) == len(data.samples):
        return data, rows
    samples = tuple(data.samples[int(i)] for i in rows)
    left = {s.label for s in samples}
    gone = [name for name in data.known if name not in left]
    if gone or None not in left:
        what = f"no readable picture of {gone[0]}" if gone else "no readable unlabelled picture"
        raise DataError(what, where=data.root, hint="run `wildsight check discovery`")
    return replace(data, samples=samples), rows
