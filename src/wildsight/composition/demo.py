"""The tour's stop: HDA-OE and its peers on the world's compositions, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.composition.bench import CompositionBench
from wildsight.report import Report

METHODS = ("hdaoe", "compcos", "product", "zeroshot")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    epochs = 3 if quick else 12
    report.text(
        "Training shows some materials on some shapes; the test asks for the **pairs it never showed**."
    )
    result = CompositionBench(
        "world", out=folder, methods=METHODS, seeds=1, epochs=epochs, open_world=True, progress=False
    ).run()
    caption = f", one seed, {epochs} epochs: a demonstration"
    result.add_to(report, result.metrics[:2], caption, "True pair: the three best answers")
