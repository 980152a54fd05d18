"""CIFAR-100 and TinyImageNet as one list of classes, in the order in which they are learned.

The class orders begin as the published ones (Continual-CLIP's files) and are completed from them where
``class_order.txt`` stands beside the data; without that file the rest follows in numerical order, and the
protocol says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image, fromarray

from wildsight.datasets.lists import read_names, read_text
from wildsight.errors import DataError
from wildsight.images import list_images

ORDER_FILE = "class_order.txt"
CIFAR_START = (87, 0, 52, 58, 44, 91, 68, 97, 51, 15)
TINY_START = (131, 181, 22, 172, 144, 92, 97, 187)
Row = tuple[Path | Image, int]
"""(file or picture, number of its class)."""


@dataclass(frozen=True)
class ClassList:
    """A set whose classes are learned a few at a time.

    Attributes:
        names: by number.
        train: the set's own training part.
        test: the set's own test part.
        order: numbers of the classes in the order of learning.
        note: where the order comes from.
        root: the folder read.
    """

    names: tuple[str, ...]
    train: tuple[Row, ...]
    test: tuple[Row, ...]
    order: tuple[int, ...]
    note: str
    root: Path


def class_order(root: Path, start: Sequence[int], count: int) -> tuple[list[int], str]:
    """The order of the classes, and where it comes from.

    Raises:
        DataError: the file is no permutation.
    """
    file = root / ORDER_FILE
    if file.is_file():
        words = read_text(file).replace(",", " ").replace(";", " ").split()
        order = [int(word) for word in words if word.isdecimal()]
        if len(order) < len(words) or sorted(order) != list(range(count)):
            raise DataError(f"is no order of {count} classes", where=file, hint="list each number once")
        return order, "published start: " + str(order[: len(start)] == list(start))
    begun = [i for i in start if i < count]
    return begun + [i for i in range(count) if i not in begun], f"published start, then ascending ({count})"


def cifar100(root: Path) -> ClassList:
    """``cifar-100-binary``: ``train.bin``, ``test.bin``, ``fine_label_names.txt`` (or that folder's
    parent)."""
    base = root / "cifar-100-binary" if (root / "cifar-100-binary").is_dir() else root
    for file in ("train.bin", "test.bin", "fine_label_names.txt"):
        if not (base / file).is_file():
            raise DataError(f"holds no {file}", where=base, hint="use the binary version of CIFAR-100")
    lines = read_text(base / "fine_label_names.txt").split()
    names = tuple(line.replace("_", " ") for line in lines)
    order, note = class_order(base, CIFAR_START, len(names))
    parts: list[tuple[Row, ...]] = [_binary(base / f"{part}.bin") for part in ("train", "test")]
    return ClassList(names, parts[0], parts[1], tuple(order), note, base)


def _binary(file: Path) -> tuple[Row, ...]:
    """Records of coarse label, fine label and 3072 bytes, channel by channel."""
    data = np.fromfile(file, np.uint8)
    if not len(data) or len(data) % 3074:
        raise DataError("is no file of CIFAR-100 records", where=file, hint="get it again")
    records = data.reshape(-1, 3074)
    pixels = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    rows = zip(pixels, records[:, 1], strict=True)
    return tuple((fromarray(np.ascontiguousarray(p)), int(c)) for p, c in rows)


def tiny_imagenet(root: Path) -> ClassList:
    """``wnids.txt``, ``words.txt``, ``train/<wnid>/images``, ``val/images`` with ``val_annotations.txt``."""
    base = root / "tiny-imagenet-200" if (root / "tiny-imagenet-200").is_dir() else root
    ids = _lines(base / "wnids.txt")
    words = dict(line.split("\t", 1) for line in _lines(base / "words.txt"))
    index = {wnid: i for i, wnid in enumerate(ids)}
    train: list[Row] = [(f, i) for w, i in index.items() for f in list_images(base / "train" / w / "images")]
    rows = [line.split("\t")[:2] for line in _lines(base / "val" / "val_annotations.txt")]
    test: list[Row] = [(base / "val" / "images" / file, index[wnid]) for file, wnid in rows if wnid in index]
    names = _unique([words.get(w, w).split(",")[0] for w in ids])
    order, note = class_order(base, TINY_START, len(ids))
    return ClassList(tuple(names), tuple(train), tuple(test), tuple(order), note, base)


def _unique(names: list[str]) -> list[str]:
    """Names that occur twice get a number, so that each is one class."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return made


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError("no such file", where=file, hint="use the published folder of TinyImageNet")
    return read_names(file)
