"""The tour's stop: MulKI and its peers learn three small tasks of the world, one seed."""

from __future__ import annotations

from pathlib import Path

from wildsight.continual.bench import ContinualBench
from wildsight.continual.data import read, world_folder
from wildsight.continual.tasks import TaskSequence
from wildsight.report import Report

METHODS = ("mulki", "finetune", "zeroshot")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    count, size, each = (2, 32, 1) if quick else (3, 48, 6)
    report.text(
        "One CLIP learns task after task and is tested on **all** of them: earlier ones show what it forgot, "
        "later ones whether its zero-shot skill survived."
    )
    whole = read("folder", world_folder(size=48, per_class=each, count=3))
    result = ContinualBench(
        TaskSequence(whole.tasks[:count], whole.scenario, whole.name, whole.protocol),
        out=folder,
        methods=METHODS,
        seeds=1,
        epochs=1 if quick else 12,
        image_size=size,
        per_class_test=2 if quick else None,
        progress=False,
    ).run()
    caption = f", percent; one seed, {count} tasks: a demonstration"
    pictures = "Accuracy on each task (columns) after learning each (rows)"
    result.add_to(report, result.metrics[:3], caption, pictures)
