"""Readers of plain folders and published benchmarks, and a check of the data before anything starts.

`READERS` maps the name in a source (``cifar-10:/data/cifar``) to its reader. Nothing is ever downloaded.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from wildsight.discovery import layouts
from wildsight.discovery.data import CategoryData, CategorySample, gcd_split, make_data
from wildsight.errors import DataError, ImageError
from wildsight.files import sha256
from wildsight.images import list_images, load_image, natural_key
from wildsight.sources import Problem

__all__ = ["READERS", "CategoryData", "CategorySample", "check", "read", "read_classes", "read_pair"]

TRUTH, TABLE = "truth.csv", "labels.csv"


def read_folder(root: Path) -> CategoryData:
    """``labelled/<class>/*`` and ``unlabelled/**/*``, or ``labels.csv`` (path, label); ``truth.csv``."""
    if (root / "labelled").is_dir():
        return read_pair(root / "labelled", root / "unlabelled", root=root)
    if (root / TABLE).is_file():
        return _from_table(root)
    raise DataError(
        "holds neither a folder `labelled` nor labels.csv",
        where=root,
        hint="use labelled/<class>/* and unlabelled/*, a labels.csv, or classes:PATH for class folders",
    )


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
    known = class_names(labelled)
    pairs = [(path, name) for name in known for path in list_images(labelled / name, recursive=True)]
    free = list_images(unlabelled, recursive=True)
    base = root or unlabelled
    truth = _truth(base)
    samples = [CategorySample(path, name, name) for path, name in pairs]
    samples += [CategorySample(p, None, truth.get(p.relative_to(base).as_posix())) for p in free]
    return _assembled(samples, known, base, "the folders labelled and unlabelled")


def _assembled(samples: list[CategorySample], known: list[str], root: Path, split: str) -> CategoryData:
    """The data set of a plain folder; a class without a picture is left out, and named by the check."""
    seen = {s.label for s in samples if s.label is not None}
    empty = tuple(name for name in known if name not in seen)
    known = [name for name in known if name in seen]
    if not known:
        raise DataError("no labelled class", where=root, hint="put pictures in labelled/<class>")
    new = sorted({s.truth for s in samples if s.truth is not None} - set(known), key=natural_key)
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


def class_names(folder: Path) -> list[str]:
    """The sub-folders of a folder, in natural order; hidden ones left out."""
    inner = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(inner, key=natural_key)


def _table(file: Path) -> list[tuple[str, str]]:
    """The rows (path, label) of a CSV file with that header."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise DataError("has no columns `path` and `label`", where=file, hint="add that header")
            return [((r["path"] or "").strip(), (r["label"] or "").strip()) for r in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot be read ({error})", where=file, hint="save it as CSV in UTF-8") from error


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


def read_classes(root: Path) -> CategoryData:
    """Class folders ``<class>/*``, all of them with a name: every second class is made new."""
    names = class_names(root)
    rows = [(path, name) for name in names for path in list_images(root / name, recursive=True)]
    seen = {name for _, name in rows}
    empty = tuple(name for name in names if name not in seen)
    names = [name for name in names if name in seen]
    if len(names) < 2:
        raise DataError("holds fewer than two class folders", where=root, hint="use <class>/* pictures")
    split = "every second class of the sorted names known, half of its pictures labelled"
    data = gcd_split(rows, names[::2], names[1::2], name="classes", root=root, split=split)
    return replace(data, empty=empty)


READERS: dict[str, Callable[[Path], CategoryData]] = {
    "folder": read_folder,
    "classes": read_classes,
    **layouts.BENCHMARKS,
}


def read(name: str, path: str | Path) -> CategoryData:
    """Index a set on disk.

    Args:
        name: a key of `READERS`.
        path: its root folder.

    Raises:
        DataError: an unknown name, a missing folder, or another layout.
    """
    if name not in READERS:
        raise DataError(f"no reader is called {name!r}", hint=f"use one of {', '.join(READERS)}")
    root = Path(path)
    if not root.is_dir():
        raise DataError("no such folder", where=root, hint="check the path")
    return READERS[name](root)


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
    paths = {data.relative(s) for s in data.samples}
    for path in _truth(data.root):
        if path not in paths:
            yield Problem(data.root / TRUTH, f"names {path}, which is not there", "correct the path")
