"""The tour's stop: HDA-OE and its peers on the world's compositions, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.composition.bench import CompositionBench
from wildsight.report import Report
from wildsight.results import score_table, title

METHODS = ("hdaoe", "compcos", "product", "zeroshot")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the task's part of the tour's report.

    Args:
        report: the page to write to.
        folder: for what the demonstration leaves; finished parts in it are not run again.
        quick: a shorter budget.
    """
    epochs = 3 if quick else 12
    report.text(
        "Training shows some materials on some shapes; the test asks for the **pairs it never showed**."
    )
    result = CompositionBench(
        "world", out=folder, methods=METHODS, seeds=1, epochs=epochs, open_world=True, progress=False
    ).run()
    for metric in result.metrics[:2]:
        table = score_table(result.rows, metric)
        report.table(table, f"{title(metric)}, one seed, {epochs} epochs: a demonstration")
    if result.pictures:
        report.gallery(list(result.pictures), "True pair: the three best answers")
