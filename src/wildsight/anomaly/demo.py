"""The tour's stop: RAS and its peers on the world's products, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.anomaly.bench import bench
from wildsight.report import Report
from wildsight.results import score_table


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the room's part of the tour's report.

    Args:
        report: the page to write to.
        folder: for what the demonstration leaves; finished parts in it are not run again.
        quick: a shorter budget.
    """
    epochs = 3 if quick else 15
    result = bench(
        "world", out=folder, seeds=1, epochs=epochs, image_size=128, precision="bf16", progress=True
    )
    for metric in result["metrics"][:3]:
        table = score_table(result["rows"], metric)
        report.table(table, f"{metric}, one seed, {epochs} epochs: a demonstration")
    if result["pictures"]:
        report.gallery(list(result["pictures"]), "Heat maps: red is at or above the threshold")
