"""The benchmarks of category discovery: their folders, and the splits that all papers of the field share.

Known and new classes and the labelled half are those of the GCD protocol. The tables of the SSB sets and of
Herbarium-19 are not ours to ship: put the published file into the set's folder, and it is checked against
what is published of it (`SPLITS`): its SHA-256, the known classes, the range of ids, the number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.datasets.folders import subfolders
from wildsight.datasets.lists import read_names
from wildsight.datasets.plain_pickle import read_plain_pickle
from wildsight.datasets.source import write_pictures
from wildsight.errors import DataError
from wildsight.files import cache_folder, sha256
from wildsight.images import list_images

LABELLED_SHARE = 0.5
GCD_RULE = "half of the known classes' training pictures labelled: RandomState(0).choice without replacement"


def labelled_half(count: int) -> NDArray[np.int64]:
    """Positions, among the rows of known classes in file order, that are labelled; sorted.

    >>> labelled_half(6).tolist()
    [1, 2, 5]
    """
    # The published splits are defined by this legacy generator.
    chosen = np.random.RandomState(0).choice(count, int(LABELLED_SHARE * count), replace=False)
    return np.sort(chosen)


@dataclass(frozen=True)
class ClassSplit:
    """The training pictures of a benchmark, with the classes that are known and those that are new.

    Attributes:
        name: the reader's name.
        root: the folder that holds the files.
        rows: (file, class) in file order.
        known: known classes, in the order of their numbers.
        new: new classes, likewise.
        split: the rule, as it is printed.
    """

    name: str
    root: Path
    rows: tuple[tuple[Path, str], ...]
    known: tuple[str, ...]
    new: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Published:
    """What is published about a set whose split is a file.

    Attributes:
        file: its name.
        sha: start of its SHA-256.
        known: number of known classes.
        total: sum of their ids.
        classes: number of classes, known and new; ids count from 0.
        pictures: number of training pictures.
    """

    file: str
    sha: str
    known: int
    total: int
    classes: int
    pictures: int


SPLITS: dict[str, Published] = {
    "cub": Published("cub_osr_splits.pkl", "48bdcaa05603d932", 100, 10154, 200, 5994),
    "stanford-cars": Published("scars_osr_splits.pkl", "28d471f0fb9e2c77", 98, 12244, 196, 8144),
    "fgvc-aircraft": Published("aircraft_osr_splits.pkl", "2a2481307cec7821", 50, 2066, 100, 6667),
    "herbarium-19": Published("herbarium_19_class_splits.pkl", "6ddd0b23888e9d9d", 341, 116254, 683, 34225),
}
"""The sets whose split is a published file."""


def imagenet100(count: int = 1000) -> list[int]:
    """The ranks, among the sorted folders of ImageNet, of the 100 classes of ImageNet-100; sorted.

    >>> imagenet100()[:4], sum(imagenet100())
    ([1, 14, 27, 31], 50211)
    """
    draw = np.random.RandomState(0).choice(count, 100, replace=False)
    return sorted(int(i) for i in draw)


def split_table(name: str, root: Path) -> tuple[list[int], list[int]]:
    """Known and new class ids of a set whose split is a published file, in that file's order.

    Raises:
        DataError: the file is missing, or is not the published one.
    """
    published = SPLITS[name]
    found = next((p for p in (root / published.file, root.parent / published.file) if p.is_file()), None)
    if found is None:
        raise DataError(
            f"needs {published.file} beside it", where=root, hint="get it from the benchmark's authors"
        )
    table = read_plain_pickle(found)
    try:
        known, new = _halves(table)
    except (KeyError, TypeError) as error:
        raise DataError(f"holds no split ({error})", where=found, hint="get it again") from error
    wrong = _wrong(published, known, new, sha256(found))
    if wrong:
        raise DataError(wrong, where=found, hint="get the published file")
    return known, new


def _wrong(published: Published, known: list[int], new: list[int], digest: str) -> str | None:
    """In what a split differs from the published one; None where it does not."""
    if len(known) != published.known or sum(known) != published.total:
        expected = f"{published.known} with sum {published.total}"
        return f"has {len(known)} known classes with sum {sum(known)}, not {expected}"
    if sorted([*known, *new]) != list(range(published.classes)):
        return f"does not name each class from 0 to {published.classes - 1} once, as known or as new"
    if not digest.startswith(published.sha):
        return f"is not the published file: its SHA-256 is {digest[:16]}..., not {published.sha}..."
    return None


def _halves(table: dict[str, Any]) -> tuple[list[int], list[int]]:
    if "Old" in table:
        return [int(i) for i in table["Old"]], [int(i) for i in table["New"]]
    hard = table["unknown_classes"]
    new = [int(i) for part in ("Hard", "Medium", "Easy") for i in hard[part]]
    return [int(i) for i in table["known_classes"]], new


def _need(path: Path, layout: str) -> Path:
    if not path.exists():
        raise DataError(f"holds no {path.name}", where=path.parent, hint=f"the layout is {layout}")
    return path


def _tabled(name: str, root: Path, rows: Sequence[tuple[Path, int]], names: Sequence[str]) -> ClassSplit:
    """The set whose split is a published table."""
    published = SPLITS[name]
    known, new = split_table(name, root)
    if len(rows) != published.pictures:
        raise DataError(
            f"has {len(rows)} training pictures, not {published.pictures}",
            where=root,
            hint="get the whole set",
        )
    label = {i: f"{i:03d}-{names[i]}" if names else str(i) for i in sorted({i for _, i in rows})}
    _complete([i for i in (*known, *new) if i not in label], root)
    pairs = tuple((path, label[i]) for path, i in rows)
    split = f"SSB semantic shift; table {published.file}, SHA-256 {published.sha}...; GCD labelled half"
    old, other = (tuple(label[i] for i in part) for part in (known, new))
    return ClassSplit(name, root, pairs, old, other, split)


def _complete(missing: Sequence[object], root: Path) -> None:
    """Refuse a set without a picture of some class: its labelled half would be another one."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"has no picture of class {missing[0]}{more}", where=root, hint="get the whole set")


def read_cub(root: Path) -> ClassSplit:
    """``images.txt``, ``image_class_labels.txt``, ``train_test_split.txt`` and ``images/``."""
    base = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    tables = [
        dict(line.split(maxsplit=1) for line in read_names(_need(base / name, read_cub.__doc__ or "")))
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    ]
    files, labels, train = tables
    rows = [(base / "images" / files[i], int(labels[i]) - 1) for i in files if train.get(i) == "1"]
    return _tabled("cub", root, rows, [])


def read_cars(root: Path) -> ClassSplit:
    """``cars_train/`` and ``devkit/cars_train_annos.mat``."""
    from scipy.io import loadmat

    file = _need(root / "devkit" / "cars_train_annos.mat", read_cars.__doc__ or "")
    try:
        notes = loadmat(file)["annotations"][0]
        rows = [(root / "cars_train" / str(n[5][0]), int(n[4].item()) - 1) for n in notes]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"cannot be read ({error})", where=file, hint="get it again") from error
    return _tabled("stanford-cars", root, rows, [])


def read_aircraft(root: Path) -> ClassSplit:
    """``data/images_variant_trainval.txt`` and ``data/images/<id>.jpg``."""
    base = root / "data" if (root / "data").is_dir() else root
    file = _need(base / "images_variant_trainval.txt", read_aircraft.__doc__ or "")
    pairs = [line.split(maxsplit=1) for line in read_names(file)]
    names = sorted({variant for _, variant in pairs})
    rank = {variant: i for i, variant in enumerate(names)}
    rows = [(base / "images" / f"{number}.jpg", rank[variant]) for number, variant in pairs]
    return _tabled("fgvc-aircraft", root, rows, [n.replace("/", "-") for n in names])


def _by_folder(root: Path, folders: Sequence[str]) -> list[tuple[Path, str]]:
    """The pictures of class folders in the order of torchvision's ImageFolder, as text: 10 before 2.

    The published labelled half is drawn from positions in that order.
    """
    rows = []
    for name in folders:
        found = list_images(root / name, recursive=True)
        rows += [(path, name) for path in sorted(found, key=lambda p: (str(p.parent), p.name))]
    return rows


def read_herbarium(root: Path) -> ClassSplit:
    """``small-train/<folder>/*``."""
    base = _need(root / "small-train", read_herbarium.__doc__ or "")
    names = [folder.name for folder in subfolders(base)]
    number = {name: i for i, name in enumerate(names)}
    rows = [(path, number[name]) for path, name in _by_folder(base, names)]
    return _tabled("herbarium-19", root, rows, names)


def read_imagenet100(root: Path) -> ClassSplit:
    """``train/<wnid>/*`` with all 1,000 folders, or with the 100 of the set."""
    base = _need(root / "train", read_imagenet100.__doc__ or "")
    names = [folder.name for folder in subfolders(base)]
    if len(names) not in (100, 1000):
        raise DataError(f"has {len(names)} classes, not 1,000 or 100", where=base, hint="check the folder")
    chosen = names if len(names) == 100 else [names[i] for i in imagenet100()]
    split = "first 50 of the sorted draw RandomState(0).choice(1000, 100) known; GCD labelled half"
    rows = _by_folder(base, chosen)
    there = {name for _, name in rows}
    _complete([name for name in chosen if name not in there], base)
    return ClassSplit("imagenet-100", root, tuple(rows), tuple(chosen[:50]), tuple(chosen[50:]), split)


def _cifar(root: Path, inner: str, files: Sequence[str], field: str, known: int, name: str) -> ClassSplit:
    """A CIFAR set: its arrays are written once as PNG files into the cache, then read as files."""
    base = root / inner if (root / inner).is_dir() else root
    layout = f"{inner}/{files[0]}"
    sources = [_need(base / file, layout) for file in files]
    folder = cache_folder("cifar") / f"{name}-{sha256(sources[0])[:16]}"
    if not folder.is_dir():
        _write_cifar(folder, sources, field)
    names = read_names(folder / "labels.txt")
    rows = tuple((folder / f"{i:05d}.png", label) for i, label in enumerate(names))
    classes = sorted(set(names), key=int)
    split = f"classes 0-{known - 1} known; GCD labelled half"
    old, new = (tuple(c for c in classes if (int(c) < known) is side) for side in (True, False))
    return ClassSplit(name, folder, rows, old, new, split)


def _write_cifar(folder: Path, sources: Sequence[Path], field: str) -> None:
    labels: list[int] = []

    def drawn() -> Iterator[tuple[str, np.ndarray]]:
        for source in sources:
            table = read_plain_pickle(source)
            pixels = np.asarray(table["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            for picture, label in zip(pixels, table[field], strict=True):
                yield f"{len(labels):05d}.png", picture
                labels.append(int(label))

    write_pictures(folder, drawn(), lambda: {"labels.txt": "\n".join(map(str, labels)) + "\n"})


def read_cifar10(root: Path) -> ClassSplit:
    """``cifar-10-batches-py/data_batch_1`` to ``data_batch_5``."""
    files = [f"data_batch_{i}" for i in range(1, 6)]
    return _cifar(root, "cifar-10-batches-py", files, "labels", 5, "cifar-10")


def read_cifar100(root: Path) -> ClassSplit:
    """``cifar-100-python/train``."""
    return _cifar(root, "cifar-100-python", ["train"], "fine_labels", 80, "cifar-100")


BENCHMARKS: dict[str, Callable[[Path], ClassSplit]] = {
    "cifar-10": read_cifar10,
    "cifar-100": read_cifar100,
    "imagenet-100": read_imagenet100,
    "cub": read_cub,
    "stanford-cars": read_cars,
    "fgvc-aircraft": read_aircraft,
    "herbarium-19": read_herbarium,
}
