"""The discovery task's data: how a source becomes samples, the labelled half, and a check beforehand.

`READERS` maps the name in a source (``cifar-10:/data/cifar``) to its reader; the benchmark folders are read
in `wildsight.datasets.categories`. Nothing is ever downloaded, and nothing here imports torch.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.datasets import categories, formats
from wildsight.datasets.categories import GCD_RULE, labelled_half
from wildsight.datasets.folders import class_folders, class_name, one_spelling
from wildsight.datasets.lists import read_table
from wildsight.datasets.source import DataSource, read_named, write_pictures
from wildsight.datasets.source import world_folder as drawn_folder
from wildsight.errors import ConfigError, DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import list_images, load_image, natural_key
from wildsight.results import Table
from wildsight.sources import Problem

WORLD_SETTINGS = {"seed": 0, "size": 96, "per_class": 24}
TRUTH, TABLE = "truth.csv", "labels.csv"


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
        """A sample's path below the root, with forward slashes; the whole path where it is elsewhere."""
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


def read_folder(root: Path) -> CategoryData:
    """``labelled/<class>/*`` and ``unlabelled/**/*``, or ``labels.csv`` (path, label); ``truth.csv``.
    Pictures without a label at all, directly in the folder or below ``unlabelled``, are taken as they are."""
    if (root / "labelled").is_dir():
        return read_pair(root / "labelled", root / "unlabelled", root=root)
    if (root / TABLE).is_file():
        return _from_table(root)
    if (root / "unlabelled").is_dir() or list_images(root):
        return read_unlabelled(root)
    hint = "use labelled/<class>/* and unlabelled/*, a labels.csv, classes:PATH for class folders, or "
    hint += "unlabelled:PATH for pictures in folders that say nothing"
    raise DataError("holds neither a folder `labelled` nor labels.csv", where=root, hint=hint)


def read_unlabelled(root: Path) -> CategoryData:
    """Pictures at any depth, none of a known class; ``truth.csv`` names their classes for scoring.

    Raises:
        DataError: no picture.
    """
    truth, files = _truth(root), list_images(root, recursive=True)
    samples = [CategorySample(path, None, truth.get(_place(path, root))) for path in files]
    new = sorted({s.truth for s in samples if s.truth is not None}, key=natural_key)
    return make_data(samples, (), new, name="unlabelled", root=root, split="nothing is labelled")


def read_pair(labelled: Path, unlabelled: Path, *, root: Path | None = None) -> CategoryData:
    """Class folders in one place and unlabelled pictures in another.

    Args:
        labelled: holds one folder per known class; pictures at any depth below it.
        unlabelled: pictures at any depth.
        root: shown paths are relative to it, and its ``truth.csv`` is used for scoring; default: the
            unlabelled folder.

    Raises:
        DataError: a missing or empty folder, no class, or folders that overlap.
    """
    _apart(labelled, unlabelled)
    known, pairs = _class_rows(labelled)
    free = list_images(unlabelled, recursive=True)
    base = root or unlabelled
    truth = _truth(base)
    samples = [CategorySample(path, name, name) for path, name in pairs]
    samples += [CategorySample(p, None, truth.get(_place(p, base))) for p in free]
    return _assembled(samples, known, base, "the folders labelled and unlabelled")


def _place(path: Path, base: Path) -> str:
    """A path as lists write it: below ``base``, in Unicode form NFC."""
    return unicodedata.normalize("NFC", path.relative_to(base).as_posix())


def _assembled(samples: list[CategorySample], known: list[str], root: Path, split: str) -> CategoryData:
    """The data set of a plain folder; a class without a picture is left out, and named by the check."""
    seen = {s.label for s in samples if s.label is not None}
    empty = tuple(name for name in known if name not in seen)
    known = [name for name in known if name in seen]
    if not known:
        raise DataError("no labelled class", where=root, hint="put pictures in labelled/<class>")
    truths = {s.truth for s in samples if s.truth is not None}
    listed = root / (TRUTH if (root / TRUTH).is_file() else TABLE)
    one_spelling((name, listed) for name in (*known, *sorted(truths)))
    new = sorted(truths - set(known), key=natural_key)
    return replace(make_data(samples, known, new, name="folder", root=root, split=split), empty=empty)


def _apart(labelled: Path, unlabelled: Path) -> None:
    for folder in (labelled, unlabelled):
        if not folder.is_dir():
            raise DataError("no such folder", where=folder, hint="check the path")
    one, other = labelled.resolve(), unlabelled.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise DataError(
            f"overlaps the labelled folder {labelled}", where=unlabelled, hint="keep the two apart"
        )


def _class_rows(folder: Path) -> tuple[list[str], list[tuple[Path, str]]]:
    """The classes of a folder of class folders, in natural order, and (file, class) of their pictures."""
    found = sorted(class_folders(folder), key=lambda pair: natural_key(pair[1].name))
    rows = [(path, name) for name, inner in found for path in list_images(inner, recursive=True)]
    return [name for name, _ in found], rows


def _table(file: Path) -> list[tuple[str, str]]:
    """The rows (path, class) of a list with that header; paths in Unicode form NFC."""
    return [
        (unicodedata.normalize("NFC", row["path"]), class_name(row["label"]))
        for row in read_table(file, ("path", "label"))
    ]


def _truth(root: Path) -> dict[str, str]:
    return dict(_table(root / TRUTH)) if (root / TRUTH).is_file() else {}


def _from_table(root: Path) -> CategoryData:
    rows = [(path, label) for path, label in _table(root / TABLE) if path]
    twice = [path for path, n in Counter(path for path, _ in rows).items() if n > 1]
    if twice:
        raise DataError(f"names {twice[0]} twice", where=root / TABLE, hint="keep one row per picture")
    truth = _truth(root)
    samples = [CategorySample(root / p, c or None, c or truth.get(p)) for p, c in rows]
    known = sorted({c for _, c in rows if c}, key=natural_key)
    return _assembled(samples, known, root, "labels.csv")


def _shared(path: Path, *, name: str) -> CategoryData:
    """A CSV or a set of the hub: ``image``, ``label`` (empty where it is unknown), perhaps ``truth``."""
    table = formats.read_table(name, path).need("image")
    named = [[class_name(row.values.get(c, "")) or None for c in ("label", "truth")] for row in table.rows]
    samples = [CategorySample(r.image, c, c or t) for r, (c, t) in zip(table.rows, named, strict=True)]
    known = sorted({s.label for s in samples if s.label}, key=natural_key)
    return _assembled(samples, known, table.root, "the column label")


def read_classes(root: Path) -> CategoryData:
    """Class folders ``<class>/*``, all of them with a name: every second class is made new."""
    names, rows = _class_rows(root)
    seen = {name for _, name in rows}
    empty = tuple(name for name in names if name not in seen)
    names = [name for name in names if name in seen]
    if len(names) < 2:
        raise DataError("holds fewer than two class folders", where=root, hint="use <class>/* pictures")
    split = "every second class of the sorted names known, half of its pictures labelled"
    data = gcd_split(rows, names[::2], names[1::2], name="classes", root=root, split=split)
    return replace(data, empty=empty)


def _benchmark(root: Path, *, reader: Callable[[Path], categories.ClassSplit]) -> CategoryData:
    found = reader(root)
    return gcd_split(found.rows, found.known, found.new, name=found.name, root=found.root, split=found.split)


READERS: dict[str, Callable[[Path], CategoryData]] = {
    "folder": read_folder,
    "classes": read_classes,
    "unlabelled": read_unlabelled,
    **{name: partial(_shared, name=name) for name in formats.TABLES},
    **{name: partial(_benchmark, reader=reader) for name, reader in categories.BENCHMARKS.items()},
}


def read(name: str, path: str | Path) -> CategoryData:
    """Index a set on disk.

    Args:
        name: a key of `READERS`.
        path: its root folder.

    Raises:
        DataError: an unknown name, a missing folder, or another layout.
    """
    return read_named(READERS, name, path)


def world_folder() -> Path:
    """The embedded world's categories as a plain folder, drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world.sets import categories

    def draw(folder: Path) -> None:
        drawn = categories(**WORLD_SETTINGS)
        export(folder, drawn.images, drawn.labels, drawn.labelled)

    from wildsight.world import WORLD_VERSION

    return drawn_folder("categories", WORLD_VERSION, WORLD_SETTINGS, draw)


def export(folder: Path, images: np.ndarray, labels: tuple[str, ...], labelled: np.ndarray) -> Path:
    """Write pictures as ``labelled/<class>``, ``unlabelled`` and ``truth.csv``, whole or not at all.

    Args:
        folder: target.
        images: [N, H, W, 3] uint8.
        labels: the class of each picture.
        labelled: [N] bool, True where the class may be seen.
    """
    places = [
        f"labelled/{label}/{i:05d}.png" if seen else f"unlabelled/{i:05d}.png"
        for i, (label, seen) in enumerate(zip(labels, labelled, strict=True))
    ]
    truth = [[p, c] for p, c, seen in zip(places, labels, labelled, strict=True) if not seen]
    text = Table(["path", "label"], truth).csv()
    return write_pictures(folder, zip(places, images, strict=True), lambda: {TRUTH: text})


def check(data: CategoryData) -> list[Problem]:
    """Every fault found in a set; decodes each picture once.

    Finds: unreadable files, classes without a picture or with a single one, the same picture twice (and
    whether it is both labelled and unlabelled, or labelled with two classes), truths that name no picture.
    """
    return [*_lonely(data), *_unreadable(data), *_duplicates(data), *_unmatched(data)]


def _lonely(data: CategoryData) -> Iterator[Problem]:
    for name in data.empty:
        yield Problem(data.root, f"class {name} has no picture", "add some, or remove its folder")
    counts = Counter(s.label for s in data.labelled)
    for name in data.known:
        if counts[name] == 1:
            what = f"class {name} has a single labelled picture"
            yield Problem(data.root, what, "add another: nothing can be held out to tell how sure it is")


def _unreadable(data: CategoryData) -> Iterator[Problem]:
    for sample in data.samples:
        try:
            load_image(sample.image)
        except ImageError as error:
            yield Problem(sample.image, error.what, error.hint or "restore it")


def _duplicates(data: CategoryData) -> Iterator[Problem]:
    first: dict[str, CategorySample] = {}
    for sample in data.samples:
        if not sample.image.is_file():
            continue
        twin = first.setdefault(sha256(sample.image), sample)
        if twin is sample:
            continue
        same = f"the same picture as {data.relative(twin)}"
        if twin.label and sample.label and twin.label != sample.label:
            yield Problem(sample.image, f"{same}, which is labelled {twin.label}", "keep the right one")
        elif (twin.label is None) != (sample.label is None):
            yield Problem(sample.image, f"{same}, which is labelled {twin.label}", "keep one of them")
        else:
            yield Problem(sample.image, same, "keep one of them")


def _unmatched(data: CategoryData) -> Iterator[Problem]:
    paths = {unicodedata.normalize("NFC", data.relative(s)) for s in data.samples}
    for path in _truth(data.root):
        if path not in paths:
            yield Problem(data.root / TRUTH, f"names {path}, which is not there", "correct the path")


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


_SOURCE = DataSource(
    READERS,
    lambda: read("folder", world_folder()),
    check,
    files=lambda d: [s.image for s in d.samples],
)
read_source = _SOURCE.read
"""The data behind ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder."""
check_source = _SOURCE.problems
"""Every problem found in a source, before any training starts; imports no torch."""
