"""The tour's stop: RAS and its peers on the world's products, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.anomaly.bench import AnomalyBench
from wildsight.report import Report
from wildsight.results import scores_of

CATEGORIES = ("bolt", "fabric", "pcb")
SMALL = {"d": 128, "heads": 4, "ffn": 512}
"""Half the width of the published heads: more epochs in the same time."""


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    epochs, methods = (8, ("ras", "patchcore", "padim")) if quick else (16, None)
    result = AnomalyBench(
        "world",
        out=folder,
        methods=methods,
        categories=CATEGORIES,
        seeds=1,
        epochs=epochs,
        hyper=SMALL,
        image_size=128,
        progress=not quick,
        precision="bf16",
    ).run()
    report.text(
        f"Good pictures of {', '.join(CATEGORIES)} were shown, none of their defects. One model of each "
        "method serves all of them; **1.000** would part every defect from every good picture."
    )
    caption = f", one seed, {epochs} epochs, heads of half the width: a demonstration"
    result.add_to(report, result.metrics[:3], caption)
    ras, core = (scores_of(result.rows, m, "mean", result.metrics[0]) for m in ("ras", "patchcore"))
    if ras < core:
        report.text(
            f"Here RAS, trained for {epochs} epochs at half its width, scores below PatchCore, which "
            "needs no training. What both reach on photographs with a full training is in "
            "`REPRODUCIBILITY.md`, under *RAS against PatchCore and PaDiM*."
        )
    if result.pictures:
        report.gallery(list(result.pictures), "Heat maps: red is at or above the threshold")
