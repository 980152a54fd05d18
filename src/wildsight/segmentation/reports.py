"""What a prediction leaves in its folder: ``scores.json``, ``results.csv``, ``report.html`` and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.estimators.predictions import Predictions, numbered, write_all
from wildsight.segmentation.result import SegmentationResult


class SegmentationPredictions(Predictions[SegmentationResult]):
    """Masks and drafts as PNG of 0 and 255, the first pictures in the report."""

    title, caption = "Outlines", "Draft (blue) and final (red)"
    shown = 24
    masks = 0

    def draw(self, number: int, result: SegmentationResult, picture: Image | None) -> None:
        """Masks, drafts, and a strip for the report."""
        stem = numbered(number, result.image)
        for name, masks in (("masks", result.masks), ("drafts", result.drafts)):
            for i, mask in enumerate(masks):
                self.save(name, f"{stem}-{i}", PILImage.fromarray(mask.astype(np.uint8) * 255))
        self.masks += len(result.masks)
        if result.image is not None and self.gallery.wants(number):
            shown = self.picture_of(result.image, picture)
            if shown is not None:
                self.gallery.add(number, result.strip(shown), f"{result.image}: picture, draft, final")

    def subtitle(self) -> str:
        """How many masks."""
        return f"{self.masks} masks in {self.count} pictures"


def write_predictions(results: Sequence[SegmentationResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction; returns its report."""
    return write_all(SegmentationPredictions(out), results, errors)
