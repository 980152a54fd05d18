"""The tour's stop: a box, stock SAM's outline, and SPT's, after a short fit on the world's defects."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.results import score_table
from wildsight.segmentation.bench import bench


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the room's part of the tour's report.

    Args:
        report: the page to write to.
        folder: for what the demonstration leaves; finished parts in it are not run again.
        quick: a shorter budget.
    """
    epochs, masks = (1, 16) if quick else (6, 64)
    methods = (
        ("zero-shot", "lora", "spt") if quick else ("zero-shot", "zero-shot-2", "decoder", "lora", "spt")
    )
    result = bench("world", out=folder, seeds=1, epochs=epochs, masks=masks, methods=methods, points=1024)
    for metric in result["metrics"][:2]:
        table = score_table(result["rows"], metric)
        text = f"{metric} from the true box, one seed, {masks} masks, {epochs} epochs: a demonstration"
        report.table(table, text)
    if result["pictures"]:
        report.gallery(list(result["pictures"]), "Picture, truth (green), SPT's draft (blue) and final (red)")
