"""The tour's stop: PWRF and its peers on the world's sensors, one seed, a short budget."""

from __future__ import annotations

from pathlib import Path

from wildsight.fusion.bench import FusionBench
from wildsight.fusion.data import world
from wildsight.report import Report

FEW = ("rgb", "depth", "thermal")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    epochs, methods = (1, ("pwrf",)) if quick else (20, ("pwrf", "concatenation", "cross-attention"))
    data = world(scale=0.1 if quick else 0.25)
    result = FusionBench(
        data, out=folder, methods=methods, seeds=1, epochs=epochs, modalities=[FEW], progress=True
    ).run()
    report.text(
        "Colour, depth and temperature of the same scene become **one mask of its things**; then night, fog "
        "and glare spoil a sensor, and each is taken away or reads zero in turn."
    )
    caption = f" by condition and failure, one seed, {epochs} epochs: a demonstration"
    pictures = "Inputs, truth, prediction, what each sensor contributed"
    result.add_to(report, result.metrics[:1], caption, pictures)
