"""The tour's stop: LLMI3D and its peers on the world, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.results import score_table, title
from wildsight.spatial.bench import SpatialBench


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the task's part of the tour's report.

    Args:
        report: the page to write to.
        folder: for what the demonstration leaves; finished parts in it are not run again.
        quick: a shorter budget.
    """
    methods = ("llmi3d",) if quick else ("llmi3d", "text", "no-virtual-depth")
    train, test, epochs = (32, 8, 1) if quick else (240, 20, 8)
    result = SpatialBench(
        "world",
        out=folder,
        methods=methods,
        seeds=1,
        preset="minutes",
        epochs=epochs,
        train=train,
        test=test,
        tokens=(),
        progress=False,
    ).run()
    report.text(
        "One picture, a question in words, and a box in metres. The test pictures come from lenses of 0.6 "
        "to 2.5 times the focal length that it learned from."
    )
    for metric in ("acc@0.25", "depth_error"):
        table = score_table(result.rows, metric)
        report.table(table, f"{title(metric)} by focal length, one seed, {epochs} epochs: a demonstration")
    if result.pictures:
        report.gallery(list(result.pictures), "Truth in green; the picture and from above (rings: metres)")
