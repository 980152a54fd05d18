"""What a prediction leaves in its folder: masks, ``results.csv``, ``scores.json``, ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.estimators.predictions import Predictions, write_all
from wildsight.estimators.reporting import shortened
from wildsight.files import short_name
from wildsight.fusion.result import FusionResult


class FusionPredictions(Predictions[FusionResult]):
    """A mask of class ids per scene, of a saliency model also its map (0 to 255), strips in the report."""

    title, caption = "Fusion", "Inputs, prediction, contribution of each modality (white: all of it)"
    entries = "scenes"
    shown = 24

    def __init__(self, out: str | Path, **options: Any) -> None:
        super().__init__(out, **options)
        self.sensors: set[str] = set()
        self.paired = False
        self.lacking: list[str] = []

    def rows(self, result: FusionResult) -> list[Mapping[str, Any]]:
        """The name and what each modality contributed."""
        return [{"name": result.name, **{f"share {k}": float(v) for k, v in result.share.items()}}]

    @property
    def side(self) -> int | None:
        """Nothing: results hold their pictures."""
        return 0

    def add(self, result: FusionResult, picture: Image | None = None) -> None:
        """Write a result; see which modalities its scene has."""
        self.sensors |= set(result.pictures)
        self.paired |= len(result.pictures) > 1
        if result.missing:
            self.lacking.append(f"{result.name} has no {', no '.join(result.missing)}")
        super().add(result, picture)

    def draw(self, number: int, result: FusionResult, picture: Image | None) -> None:  # noqa: ARG002
        """The mask; a strip for the report."""
        name = short_name(result.name.replace("/", "-"))
        self.save("masks", name, _grey(result.labels))
        if result.saliency:
            self.save("saliency", name, _grey(np.rint(result.confidence * 255)))
        if self.gallery.wants(number):
            words = ", ".join(caption for _, caption in result.reduced(self.shown).tiles())
            self.gallery.add(number, result.strip(), f"{result.name}: {words}")

    def warnings(self) -> list[str]:
        """Where several modalities were given and no scene has two of them; scenes that lack some."""
        apart = "no file name is in two of the folders: every scene has one modality"
        alone = len(self.sensors) > 1 and not self.paired
        return [*([apart] if alone else []), *shortened(self.lacking)]


def _grey(values: np.ndarray) -> Image:
    """A plane of numbers below 256 as a picture."""
    return PILImage.fromarray(values.astype(np.uint8))


def write_predictions(results: Sequence[FusionResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction; returns its report."""
    return write_all(FusionPredictions(out), results, errors)
