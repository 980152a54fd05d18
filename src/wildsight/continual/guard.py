"""The guard set: probe tasks that are never trained on, and the points that updates may cost them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildsight.continual.data import read_source
from wildsight.continual.evaluation import Gallery, evaluate
from wildsight.continual.tasks import Picture, TaskData, content, distinct, known, tested
from wildsight.continual.towers import Towers
from wildsight.errors import DataError
from wildsight.files import digest_of

Guard = str | Path | Sequence[TaskData] | None


def probes_of(guard: Guard) -> list[TaskData]:
    """The probe tasks of a source; where one has no test part, its training part is the probe.

    Raises:
        DataError: the source does not fit its layout, or a probe has no picture.
    """
    if guard is None:
        return []
    tasks = read_source(guard, guard=True).tasks if isinstance(guard, str | Path) else guard
    probes = [t if t.test else replace(t, test=t.train) for t in tasks]
    tested(probes)
    return probes


def signatures(pictures: Sequence[Picture]) -> Tensor:
    """64 bits of each picture's SHA-256, sorted, each once: int64 [N]."""
    values = [_signature(p) for p in pictures]
    return torch.tensor(sorted(set(values)), dtype=torch.int64)


def _signature(picture: Picture) -> int:
    return int.from_bytes(hashlib.sha256(content(picture).encode()).digest()[:8], "big", signed=True)


def apart(tasks: Sequence[TaskData], probes: Sequence[TaskData], trained: Tensor) -> None:
    """Refuse a guard set that holds a training picture.

    Args:
        tasks: to be learned.
        probes: the guard set.
        trained: `signatures` of the pictures of tasks that were learned.

    Raises:
        DataError: it is named.
    """
    if not probes:
        return
    shown = {_signature(p): (p, probe.name) for probe in probes for p, _ in (*probe.test, *probe.train)}
    sizes, learned = {_size(p) for p, _ in shown.values()}, set(trained.tolist())
    new = (_signature(p) for task in tasks for p, _ in task.train if _size(p) in sizes)
    hit = next(chain((k for k in shown if k in learned), (k for k in new if k in shown)), None)
    if hit is not None:
        picture, name = shown[hit]
        where = picture if isinstance(picture, Path) else name
        what = f"is a training picture in the guard set {name!r}"
        raise DataError(what, where=where, hint="keep the guard set apart")


def _size(picture: Picture) -> int | None:
    """Bytes of a file, so that only files of a guard picture's size are read; None in memory."""
    return picture.stat().st_size if isinstance(picture, Path) and picture.is_file() else None


def check_tasks(
    tasks: Sequence[TaskData],
    probes: Sequence[TaskData],
    tests: Sequence[TaskData],
    learned: Sequence[Mapping[str, Any]],
    trained: Tensor,
    *,
    repeat: bool,
) -> None:
    """Name what is wrong with tasks to learn in this order, before anything is computed.

    Args:
        tasks: to learn.
        probes: the guard set.
        tests: tasks to test afterwards.
        learned: the tasks learned before, each with ``name``, ``classes`` and ``templates``.
        trained: `signatures` of their pictures.
        repeat: allow prompts that an earlier task used.

    Raises:
        DataError: a class without picture or name, prompts of an earlier task, a task in ``tests`` without
            test pictures, or a picture of a task in the guard set.
    """
    for task in tasks:
        task.require()
    tested(tests)
    if not repeat:
        distinct(tasks, known(learned))
    apart(tasks, probes, trained)


def measured(
    served: Towers,
    candidate: Towers,
    probes: Sequence[TaskData],
    gallery: Gallery,
    earlier: Mapping[str, float],
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Probe task -> accuracy before and after an update, and -> accuracy when it was first measured.

    Args:
        served: the model before, and ``candidate``, the one after.
        probes: the guard set.
        gallery: decoded pictures.
        earlier: `key_of` a probe -> its accuracy when it was first measured.
    """
    if not probes:
        return {}, {}
    before = evaluate(served.copied(), probes, gallery).accuracy
    after = evaluate(candidate.copied(), probes, gallery).accuracy
    first = {p.name: earlier.get(key_of(p), before[p.name]) for p in probes}
    return {name: (before[name], after[name]) for name in before}, first


def key_of(probe: TaskData) -> str:
    """What a probe's first accuracy is kept under: its name, classes and pictures."""
    rows = [[content(p), y] for p, y in probe.test]
    return f"{probe.name}:{digest_of([probe.classes, probe.templates, rows])[:12]}"


def refused(guarded: Mapping[str, tuple[float, float]], first: Mapping[str, float], allowed: float) -> str:
    """Why an update may not serve; empty where it may.

    Args:
        guarded: probe -> accuracy before and after the update, percent.
        first: probe -> accuracy when it was first measured, before any guarded update.
        allowed: points that the mean may lose, in one update and in all of them together.
    """
    if not guarded:
        return ""
    after = sum(b for _, b in guarded.values()) / len(guarded)
    fell = sum(a for a, _ in guarded.values()) / len(guarded) - after
    total = sum(first[name] for name in guarded) / len(guarded) - after
    if fell > allowed:
        return f"the guard set fell by {fell:.1f} points, allowed are {allowed:.1f}"
    if total > allowed:
        since = "points since it was first measured, over all updates"
        return f"the guard set fell by {total:.1f} {since}, allowed are {allowed:.1f}"
    return ""
