"""The tour's stop: a box, stock SAM's outline, and SPT's, after a short fit on the world's defects."""

from __future__ import annotations

from pathlib import Path

from wildsight.report import Report
from wildsight.segmentation.bench import SegmentationBench
from wildsight.segmentation.data import WORLD_SETTINGS

METHODS = ("zero-shot", "lora", "spt")


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    source, epochs, masks = (_few(folder), 1, 16) if quick else ("world", 4, 32)
    result = SegmentationBench(
        source,
        out=folder,
        seeds=1,
        epochs=epochs,
        masks=masks,
        methods=METHODS,
        points=1024,
        augment="flip",
        train_prompt="same",
    ).run()
    report.text(
        "A box marks a defect; the mask is to be its exact outline. Boxes come from the true masks, so this "
        "measures outlines, not detection."
    )
    caption = f", one seed, {masks} masks, {epochs} epochs: a demonstration"
    result.add_to(report, result.metrics[:2], caption, "Picture, truth (green), draft (blue), final (red)")


def _few(folder: Path) -> str:
    """Seven defects of each product, one of each kind, drawn into ``folder``."""
    from wildsight.world.products import export_products

    path = folder / "defects"
    if not path.is_dir():
        export_products(path, **{**WORLD_SETTINGS, "test_bad": 7})
    return f"mvtec-ad:{path}"
