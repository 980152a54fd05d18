"""The tour's stop: the world's drawings against its photos, for solids that were never trained."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.results import score_table
from wildsight.retrieval.bench import RetrievalBench

METHODS = ("zero-shot", "triplet", "quadruplet", "ramln")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    chosen = METHODS[:1] + METHODS[2:3] if quick else METHODS
    result = RetrievalBench(
        "world", out=folder, methods=chosen, seeds=1, epochs=2 if quick else 5, image_size=96
    ).run()
    report.text(
        "A drawing asks, photos answer; **no photo or drawing of the solids asked for was in training**. "
        "`zero-shot` is the CLIP tower as it came."
    )
    for metric, meaning in (
        ("map_all", "mAP over the whole gallery"),
        ("p_100", "Precision at 100"),
    ):
        report.table(score_table(result.rows, metric), f"{meaning}, one seed: a demonstration")
    if result.pictures:
        report.gallery(list(result.pictures), "A drawing, then the photos found: green is the right class")
