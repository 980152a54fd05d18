"""Accuracy of one model on tasks: among each task's own classes, or among all classes seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wildsight.continual.pictures import Pictures
from wildsight.continual.result import ContinualEvaluation
from wildsight.continual.tasks import TaskData, tested
from wildsight.continual.towers import Towers
from wildsight.errors import ImageError
from wildsight.training.progress import Meter

BATCH = 128


class Gallery:
    """Test pictures, decoded once for all evaluations of a run; unreadable ones are listed and count as
    wrong."""

    def __init__(self) -> None:
        self.parts: dict[int, tuple[TaskData, Pictures, list[int], list[str]]] = {}

    def of(self, task: TaskData, towers: Towers) -> tuple[Pictures, list[int], list[str]]:
        """Pictures of the test part, positions of the readable ones, and the faults."""
        key = id(task)
        if key not in self.parts:
            pictures = Pictures(task.test, towers.pixels)
            good, faults = [], []
            for index in range(len(pictures)):
                try:
                    pictures.pixels(index)
                    good.append(index)
                except ImageError as error:
                    faults.append(str(error))
            self.parts[key] = (task, pictures, good, faults)
        return self.parts[key][1:]


def evaluate(
    towers: Towers,
    tasks: Sequence[TaskData],
    gallery: Gallery,
    *,
    scenario: str = "task",
    progress: bool = False,
) -> ContinualEvaluation:
    """Top-1 accuracy in percent.

    Args:
        towers: the model; words it lacks get their rows.
        tasks: with test pictures.
        gallery: decoded pictures.
        scenario: ``task``: each among its own classes; ``class``: among the classes of all ``tasks``.
        progress: show progress and the time left.

    Raises:
        DataError: a task without test pictures.
    """
    tested(tasks)
    towers.grow(towers.unknown([t.format(c) for task in tasks for t in task.templates for c in task.classes]))
    texts = {task.name: towers.encode_prompts(task.classes, task.templates).cpu() for task in tasks}
    offsets: dict[str, int] = {}
    for task in tasks:
        offsets[task.name] = sum(len(t.classes) for t in tasks[: len(offsets)]) if scenario == "class" else 0
    joined = torch.cat(list(texts.values())) if scenario == "class" else None
    accuracy: dict[str, float] = {}
    counts: dict[str, int] = {}
    errors: list[str] = []
    with Meter("test", len(tasks), enabled=progress) as meter:
        for task in tasks:
            pictures, good, faults = gallery.of(task, towers)
            candidates = texts[task.name] if joined is None else joined
            right = _right(towers, pictures, good, candidates, offsets[task.name])
            accuracy[task.name], counts[task.name] = 100.0 * right / len(pictures), len(pictures)
            errors += faults
            meter.add(1)
    return ContinualEvaluation.of(accuracy, counts, scenario, errors)


def _right(towers: Towers, pictures: Pictures, good: list[int], texts: Tensor, offset: int) -> int:
    right, labels = 0, pictures.labels
    for start in range(0, len(good), BATCH):
        part = good[start : start + BATCH]
        rows = towers.embed(torch.stack([pictures.pixels(i) for i in part]), BATCH)
        right += int(((rows @ texts.T).argmax(1) == labels[part] + offset).sum())
    return right
