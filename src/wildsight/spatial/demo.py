"""The tour's stop: LLMI3D and its peers on the world, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.spatial.bench import SpatialBench


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
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
    caption = f" by focal length, one seed, {epochs} epochs: a demonstration"
    pictures = "Truth in green; the picture and from above (rings: metres)"
    result.add_to(report, ("acc@0.25", "depth_error"), caption, pictures)
