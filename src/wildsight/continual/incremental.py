"""Class-incremental CIFAR-100 and TinyImageNet: one list of classes, learned a few at a time.

After each step all classes seen so far are tested among each other. The sets and their class orders are read
in `wildsight.datasets.class_incremental`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wildsight.continual.tasks import Pair, TaskData, TaskSequence
from wildsight.datasets.class_incremental import ClassList, cifar100, tiny_imagenet
from wildsight.errors import DataError
from wildsight.files import digest_of

TEMPLATE = "a bad photo of a {}."
TINY_BASE = 100
BATCH, WARMUP = 64, 30


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


def sequence_of(found: ClassList, base: int, steps: int) -> TaskSequence:
    """One task per group of classes, labels counted within the group.

    Args:
        found: the set.
        base: how many classes the first task has; 0 gives every task the same number.
        steps: equal groups of the rest.

    Raises:
        DataError: the rest makes no such groups.
    """
    groups = grouped(found.order, base, steps)
    tasks = []
    for number, group in enumerate(groups):
        place = {c: i for i, c in enumerate(group)}
        parts: list[tuple[Pair, ...]] = [
            tuple((p, place[c]) for p, c in rows if c in place) for rows in (found.train, found.test)
        ]
        classes = tuple(found.names[c] for c in group)
        name = f"step-{number + 1:02d}"
        recipe = published(len(parts[0]))
        tasks.append(TaskData(name, classes, (TEMPLATE,), parts[0], parts[1], found.root, recipe))
    protocol = {
        "split": "the set's own train and test part",
        "class order": found.note,
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
    """CIFAR-100 in ``steps`` equal tasks."""
    return sequence_of(cifar100(root), 0, steps)


def read_tiny(root: Path, steps: int) -> TaskSequence:
    """TinyImageNet: half of the classes first, then ``steps`` equal tasks."""
    found = tiny_imagenet(root)
    count = len(found.names)
    return sequence_of(found, TINY_BASE if count > TINY_BASE else count // 2, steps)
