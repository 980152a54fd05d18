"""The tour's first stop: contact sheets of the embedded world."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.world.sheets import products_sheet, scenes_sheet


def demo(report: Report, folder: Path, quick: bool) -> None:  # noqa: ARG001
    """Write the world's part of the tour's report."""
    report.figure(products_sheet(), "Products: a good one, then every defect, with its mask below")
    report.figure(scenes_sheet(), "Random scenes of four things")
