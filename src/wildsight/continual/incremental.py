"""Class-incremental CIFAR-100 and TinyImageNet: one list of classes, learned a few at a time.

After each step all classes seen so far are tested among each other. The class orders begin as the
published ones (Continual-CLIP's files) and are completed from them where ``class_order.txt`` stands beside
the data; without that file the rest follows in numerical order, and the protocol says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image, fromarray

from wildsight.continual.data import Pair, TaskData, TaskSequence
from wildsight.errors import DataError
from wildsight.files import digest_of
from wildsight.images import list_images

TEMPLATE = "a bad photo of a {}."
ORDER_FILE = "class_order.txt"
CIFAR_START = (87, 0, 52, 58, 44, 91, 68, 97, 51, 15)
TINY_START = (131, 181, 22, 172, 144, 92, 97, 187)
TINY_BASE = 100
BATCH, WARMUP = 64, 30


def class_order(root: Path, start: Sequence[int], count: int) -> tuple[list[int], str]:
    """The order of the classes, and where it comes from.

    Raises:
        DataError: the file is no permutation.
    """
    file = root / ORDER_FILE
    if file.is_file():
        order = [int(w) for w in file.read_text(encoding="utf-8").replace(",", " ").split()]
        if sorted(order) != list(range(count)):
            raise DataError(f"is no order of {count} classes", where=file, hint="list each number once")
        return order, "published start: " + str(order[: len(start)] == list(start))
    begun = [i for i in start if i < count]
    return begun + [i for i in range(count) if i not in begun], f"published start, then ascending ({count})"


def grouped(order: Sequence[int], base: int, steps: int) -> list[list[int]]:
    """The classes of each task: ``base`` first ones if any, then ``steps`` equal groups.

    >>> [len(g) for g in grouped(range(200), 100, 5)]
    [100, 20, 20, 20, 20, 20]
    """
    rest = list(order[base:])
    if not rest or len(rest) % steps:
        raise DataError(f"{len(rest)} classes make no {steps} equal steps", hint="choose other steps")
    each = len(rest) // steps
    groups = [rest[i : i + each] for i in range(0, len(rest), each)]
    return ([list(order[:base])] if base else []) + groups


def sequence_of(
    name: str,
    groups: Sequence[Sequence[int]],
    names: Sequence[str],
    train: Sequence[tuple[Any, int]],
    test: Sequence[tuple[Any, int]],
    root: Path,
    note: str,
) -> TaskSequence:
    """One task per group of classes, labels counted within the group."""
    tasks = []
    for number, group in enumerate(groups):
        place = {c: i for i, c in enumerate(group)}
        parts: list[tuple[Pair, ...]] = [
            tuple((p, place[c]) for p, c in rows if c in place) for rows in (train, test)
        ]
        classes = tuple(names[c] for c in group)
        name = f"step-{number + 1:02d}"
        tasks.append(TaskData(name, classes, (TEMPLATE,), parts[0], parts[1], root, published(len(parts[0]))))
    protocol = {
        "split": "the set's own train and test part",
        "class order": note,
        "order SHA-256": digest_of([list(g) for g in groups]),
        "scenario": "class: tested among all classes seen so far; no task id",
    }
    return TaskSequence(tuple(tasks), "class", name, protocol)


def published(pictures: int) -> dict[str, Any]:
    """The benchmark's recipe of a full-size CLIP: one pass in batches of 64 at 7.1e-6, 30 steps to warm up.

    >>> round(published(5000)["warmup"] * 79)
    30
    """
    steps = math.ceil(pictures / BATCH)
    return {"lr": 7.1e-6, "epochs": 1, "batch_size": BATCH, "warmup": min(0.5, WARMUP / max(1, steps))}


def read_cifar100(root: Path, steps: int) -> TaskSequence:
    """``cifar-100-binary``: ``train.bin``, ``test.bin``, ``fine_label_names.txt`` (or that folder's
    parent)."""
    base = root / "cifar-100-binary" if (root / "cifar-100-binary").is_dir() else root
    for file in ("train.bin", "test.bin", "fine_label_names.txt"):
        if not (base / file).is_file():
            raise DataError(f"holds no {file}", where=base, hint="use the binary version of CIFAR-100")
    lines = (base / "fine_label_names.txt").read_text(encoding="utf-8").split()
    names = [line.replace("_", " ") for line in lines]
    order, note = class_order(base, CIFAR_START, len(names))
    parts = [_binary(base / f"{part}.bin") for part in ("train", "test")]
    return sequence_of(f"cifar100-{steps}", grouped(order, 0, steps), names, parts[0], parts[1], base, note)


def _binary(file: Path) -> list[tuple[Image, int]]:
    """Records of coarse label, fine label and 3072 bytes, channel by channel."""
    data = np.fromfile(file, np.uint8)
    if not len(data) or len(data) % 3074:
        raise DataError("is no file of CIFAR-100 records", where=file, hint="get it again")
    records = data.reshape(-1, 3074)
    pixels = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return [(fromarray(np.ascontiguousarray(p)), int(c)) for p, c in zip(pixels, records[:, 1], strict=True)]


def read_tiny(root: Path, steps: int) -> TaskSequence:
    """``wnids.txt``, ``words.txt``, ``train/<wnid>/images``, ``val/images`` with ``val_annotations.txt``."""
    base = root / "tiny-imagenet-200" if (root / "tiny-imagenet-200").is_dir() else root
    ids = _lines(base / "wnids.txt")
    words = dict(line.split("\t", 1) for line in _lines(base / "words.txt"))
    index = {wnid: i for i, wnid in enumerate(ids)}
    train = [(f, i) for w, i in index.items() for f in list_images(base / "train" / w / "images")]
    rows = [line.split("\t")[:2] for line in _lines(base / "val" / "val_annotations.txt")]
    test = [(base / "val" / "images" / file, index[wnid]) for file, wnid in rows if wnid in index]
    names = _unique([words.get(w, w).split(",")[0] for w in ids])
    half = TINY_BASE if len(ids) > TINY_BASE else len(ids) // 2
    order, note = class_order(base, TINY_START, len(ids))
    return sequence_of(f"tinyimagenet-{steps}", grouped(order, half, steps), names, train, test, base, note)


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
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
