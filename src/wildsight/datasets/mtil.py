"""The eleven sets of the multi-domain benchmark (MTIL), in both orders, from their published folders.

Splits: the sets' own, and for Caltech101, EuroSAT and SUN397 80/20 by ``torch.randperm`` with seed 42,
written down once as ``mtil-split.json`` beside the set, or in the cache where that folder cannot be written
(with its SHA-256 in the protocol), and read from there ever after.

Differences: 1. CIFAR-100 is read from its binary version (``cifar-100-binary``), since the Python version is
a pickle. 2. Stanford Cars has the 8 templates of the published prompt list; the benchmark's paper counts 9.
3. A task is trained for whole passes, so for 1,008 to 1,876 steps in place of 1,000 (``epochs`` fixed).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import fromarray

from wildsight.datasets import class_incremental
from wildsight.datasets.class_incremental import Row
from wildsight.datasets.lists import read_json, read_names
from wildsight.datasets.mtil_names import CLASS_NAMES, TEMPLATES
from wildsight.errors import DataError
from wildsight.files import cache_folder, sha256, write_json
from wildsight.images import list_images

SPLIT = "mtil-split.json"
ORDERS = {
    1: ("aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers", "food", "mnist", "oxford-pet",
        "stanford-cars", "sun397"),
    2: ("stanford-cars", "food", "mnist", "oxford-pet", "flowers", "sun397", "aircraft", "caltech101", "dtd",
        "eurosat", "cifar100"),
}  # fmt: skip
SIZES = {
    "aircraft": (100, 3334, 3333),
    "caltech101": (101, 6941, 1736),
    "cifar100": (100, 50000, 10000),
    "dtd": (47, 1880, 1880),
    "eurosat": (10, 21600, 5400),
    "flowers": (102, 1020, 6149),
    "food": (101, 75750, 25250),
    "mnist": (10, 60000, 10000),
    "oxford-pet": (37, 3680, 3669),
    "stanford-cars": (196, 8144, 8041),
    "sun397": (397, 87003, 21751),
}
"""Set -> classes, training and test pictures, as the published splits have them."""

Parts = tuple[list[str], Sequence[Row], Sequence[Row]]


@dataclass(frozen=True)
class MtilSet:
    """One of the eleven sets.

    Attributes:
        name: a key of `FOLDERS`.
        classes: names, as the benchmark's prompts have them.
        templates: each with ``{}`` for the class name.
        train: (file or picture, position in ``classes``).
        test: the same.
        root: its folder.
        recipe: what the benchmark publishes for training on it, where that is not its usual recipe.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    train: tuple[Row, ...]
    test: tuple[Row, ...]
    root: Path
    recipe: dict[str, float] = field(default_factory=dict, hash=False)


HALVED = ("caltech101", "eurosat", "sun397")
"""The sets without a split of their own."""
RATES = {"aircraft": 5e-5, "mnist": 5e-5}
"""Learning rates of a full-size CLIP where they are not the benchmark's 1e-5."""


def read_mtil(root: Path, order: int, whole: bool = True) -> tuple[tuple[MtilSet, ...], dict[str, Any]]:
    """The sets that stand under ``root``, in the benchmark's order, and the protocol, which names the others.

    Args:
        root: folder of the sets.
        order: 1 or 2.
        whole: every set that is there has to have its published size; else the protocol names those that
            have another.

    Raises:
        DataError: none of the sets is there, or one does not have its published size.
    """
    present = [name for name in ORDERS[order] if (root / FOLDERS[name]).is_dir()]
    if not present:
        raise DataError("holds none of the eleven sets", where=root, hint=f"e.g. {FOLDERS['eurosat']}")
    sets = tuple(_set(name, root / FOLDERS[name]) for name in present)
    other = [t for t in sets if _size(t) != SIZES[t.name]]
    if whole and other:
        raise DataError(
            f"holds {_told(_size(other[0]))}; published are {_told(SIZES[other[0].name])}",
            where=other[0].root,
            hint="complete it, or read a part of it as mtil-part",
        )
    halved = [t for t in sets if t.name in HALVED]
    sums = {t.name: sha256(split_file(t.root, len(t.train) + len(t.test))) for t in halved}
    protocol = {
        "order": f"{order}: {', '.join(present)}",
        "absent": ", ".join(n for n in ORDERS[order] if n not in present) or "none",
        "size differs from the published one": ", ".join(t.name for t in other) or "none",
        "written splits (SHA-256)": sums,
        "scenario": "task: each tested among its own classes; training text is the first template",
    }
    return sets, protocol


def _size(found: MtilSet) -> tuple[int, int, int]:
    return len(found.classes), len(found.train), len(found.test)


def _told(size: tuple[int, int, int]) -> str:
    return f"{size[0]} classes, {size[1]} training and {size[2]} test pictures"


def _set(name: str, root: Path) -> MtilSet:
    classes, train, test = _READ[name](root)
    listed = CLASS_NAMES.get(name, {})
    names = tuple(listed.get(c, c.replace("_", " ")) for c in classes)
    published = {"lr": RATES[name]} if name in RATES else {}
    return MtilSet(name, names, TEMPLATES[name], tuple(train), tuple(test), root, published)


def split_file(root: Path, count: int) -> Path:
    """The written 80/20 split of ``count`` pictures; drawn on first use.

    It lies beside the set, or in the cache where the set's folder cannot be written.
    """
    file = root / SPLIT
    elsewhere = cache_folder("continual") / f"{root.name}-{count}-{SPLIT}"
    for found in (file, elsewhere):
        if found.is_file():
            return found
    import torch

    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(42)).tolist()
    cut = int(0.8 * count)
    value = {"count": count, "seed": 42, "train": drawn[:cut], "test": drawn[cut:]}
    try:
        write_json(file, value)
    except DataError:
        write_json(elsewhere, value)
        return elsewhere
    return file


def split_80_20(root: Path, count: int) -> tuple[list[int], list[int]]:
    """Positions of the training and test pictures, as written.

    Raises:
        DataError: a written split of another number of pictures.
    """
    file = split_file(root, count)
    value = read_json(file)
    if value.get("count") != count:
        raise DataError(f"splits {value.get('count')} pictures, not {count}", where=file, hint="remove it")
    return value["train"], value["test"]


def _need(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"holds no {path.name}", where=path.parent, hint="use the set's published folder")
    return path


def _lines(path: Path) -> list[str]:
    return read_names(_need(path))


def _class_folders(root: Path, skip: frozenset[str] = frozenset()) -> Parts:
    """Class folders in byte order, split 80/20."""
    names = sorted(p.name for p in _need(root).iterdir() if p.is_dir() and p.name not in skip)
    rows = [(f, i) for i, n in enumerate(names) for f in sorted(list_images(root / n))]
    return _halved(root.parent, names, rows)


def _halved(root: Path, names: list[str], rows: list[tuple[Any, int]]) -> Parts:
    train, test = split_80_20(root, len(rows))
    return names, [rows[i] for i in train], [rows[i] for i in test]


def _aircraft(root: Path) -> Parts:
    names = _lines(root / "data" / "variants.txt")
    index = {n: i for i, n in enumerate(names)}
    parts = []
    for split in ("train", "test"):
        rows = [line.split(" ", 1) for line in _lines(root / "data" / f"images_variant_{split}.txt")]
        parts.append([(root / "data" / "images" / f"{i}.jpg", index[n]) for i, n in rows])
    return names, parts[0], parts[1]


def _caltech(root: Path) -> Parts:
    return _class_folders(root / "101_ObjectCategories", frozenset({"BACKGROUND_Google"}))


def _cifar100(root: Path) -> Parts:
    found = class_incremental.cifar100(root)
    names = sorted(found.names)
    index = {name: i for i, name in enumerate(names)}
    tens = [set(found.order[i : i + 10]) for i in range(0, len(found.order), 10)]
    parts = [
        [(picture, index[found.names[c]]) for ten in tens for picture, c in rows if c in ten]
        for rows in (found.train, found.test)
    ]
    return names, parts[0], parts[1]


def _dtd(root: Path) -> Parts:
    base = root / "dtd" if (root / "dtd").is_dir() else root
    listed = {part: _lines(base / "labels" / f"{part}1.txt") for part in ("train", "test")}
    names = sorted({line.split("/")[0] for line in listed["train"]})
    index = {n: i for i, n in enumerate(names)}
    parts = [[(base / "images" / f, index[f.split("/")[0]]) for f in listed[p]] for p in ("train", "test")]
    return names, parts[0], parts[1]


def _eurosat(root: Path) -> Parts:
    return _class_folders(root / "2750")


def _flowers(root: Path) -> Parts:
    from scipy.io import loadmat

    labels = loadmat(_need(root / "imagelabels.mat"))["labels"].ravel()
    splits = loadmat(_need(root / "setid.mat"))
    files = root / "jpg"
    parts = [
        [(files / f"image_{i:05d}.jpg", int(labels[i - 1]) - 1) for i in splits[key].ravel().tolist()]
        for key in ("trnid", "tstid")
    ]
    return [str(i + 1) for i in range(int(labels.max()))], parts[0], parts[1]


def _food(root: Path) -> Parts:
    listed = {p: read_json(_need(root / "meta" / f"{p}.json")) for p in ("train", "test")}
    names = sorted(listed["train"])
    parts = [
        [(root / "images" / f"{f}.jpg", i) for i, n in enumerate(names) for f in listed[p][n]]
        for p in ("train", "test")
    ]
    return names, parts[0], parts[1]


def _mnist(root: Path) -> Parts:
    base = root / "raw" if (root / "raw").is_dir() else root
    parts = []
    for part in ("train", "t10k"):
        pictures = _idx(base / f"{part}-images-idx3-ubyte")
        labels = _idx(base / f"{part}-labels-idx1-ubyte")
        parts.append([(fromarray(p), int(y)) for p, y in zip(pictures, labels, strict=True)])
    return [str(i) for i in range(10)], parts[0], parts[1]


def _idx(file: Path) -> np.ndarray:
    """An IDX file of bytes."""
    data = _need(file).read_bytes()
    dims = data[3] if len(data) > 4 else 0
    shape = struct.unpack(f">{dims}I", data[4 : 4 + 4 * dims])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dims)
    if not dims or data[2] != 8 or values.size != int(np.prod(shape)):
        raise DataError("is no IDX file of bytes", where=file, hint="get it again")
    return values.reshape(shape)


def _pets(root: Path) -> Parts:
    listed = {p: _lines(root / "annotations" / f"{p}.txt") for p in ("trainval", "test")}
    rows = {p: [line.split() for line in lines] for p, lines in listed.items()}
    names = {int(r[1]) - 1: r[0].rsplit("_", 1)[0] for r in rows["trainval"]}
    parts = [
        [(root / "images" / f"{r[0]}.jpg", int(r[1]) - 1) for r in rows[p]] for p in ("trainval", "test")
    ]
    return [names[i] for i in range(len(names))], parts[0], parts[1]


def _cars(root: Path) -> Parts:
    from scipy.io import loadmat

    meta = loadmat(_need(root / "devkit" / "cars_meta.mat"), squeeze_me=True)["class_names"]
    tables = (root / "devkit" / "cars_train_annos.mat", root / "cars_test_annos_withlabels.mat")
    parts = []
    for table, folder in zip(tables, ("cars_train", "cars_test"), strict=True):
        entries = loadmat(_need(table), squeeze_me=True)["annotations"]
        parts.append([(root / folder / str(e["fname"]), int(e["class"]) - 1) for e in entries])
    return [str(n) for n in meta], parts[0], parts[1]


def _sun(root: Path) -> Parts:
    names = [line[3:] for line in _lines(root / "ClassName.txt")]  # "/a/abbey"
    folders = [root / line[1:] for line in _lines(root / "ClassName.txt")]
    rows = [(f, i) for i, place in enumerate(folders) for f in sorted(list_images(place))]
    return _halved(root, [n.replace("/", " ") for n in names], rows)


FOLDERS = {
    "aircraft": "fgvc-aircraft-2013b",
    "caltech101": "caltech101",
    "cifar100": "cifar-100-binary",
    "dtd": "dtd",
    "eurosat": "eurosat",
    "flowers": "flowers-102",
    "food": "food-101",
    "mnist": "MNIST",
    "oxford-pet": "oxford-iiit-pet",
    "stanford-cars": "stanford_cars",
    "sun397": "SUN397",
}
_READ: dict[str, Callable[[Path], Parts]] = {
    "aircraft": _aircraft,
    "caltech101": _caltech,
    "cifar100": _cifar100,
    "dtd": _dtd,
    "eurosat": _eurosat,
    "flowers": _flowers,
    "food": _food,
    "mnist": _mnist,
    "oxford-pet": _pets,
    "stanford-cars": _cars,
    "sun397": _sun,
}
