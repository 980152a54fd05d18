"""What a prediction leaves in its folder: overlays, ``results.csv``, ``scores.json``, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from wildsight.anomaly.result import AnomalyResult
from wildsight.estimators.predictions import FIT, SMALL, Predictions, numbered, write_all


class AnomalyPredictions(Predictions[AnomalyResult]):
    """An overlay per picture, the highest scores in the report."""

    title, caption = "Anomalies", "Highest scores first"

    @property
    def side(self) -> int | None:
        """As large as overlays are."""
        return {"fit": FIT, "full": None, "none": SMALL}[self.overlay]

    def draw(self, number: int, result: AnomalyResult, picture: Image | None) -> None:
        """The heat map over the picture."""
        times = result.score / max(result.threshold, 1e-12)
        if self.overlay == "none" and not self.gallery.wants(-times):
            return
        overlay = result.overlay(self.picture_of(result.image, picture))
        if self.overlay != "none":
            self.save("overlays", numbered(number, result.image), overlay)
        self.gallery.add(-times, overlay, f"{result.image}: {times:.2f} x the threshold")

    def subtitle(self) -> str:
        """How many are anomalous."""
        return f"{self.alarms} of {self.count} pictures anomalous"


def write_predictions(results: Sequence[AnomalyResult], errors: Sequence[str], out: Path) -> Path:
    """Write the folder of a prediction; see `Predictions`.

    Args:
        results: one per readable picture.
        errors: one sentence per picture that could not be read.
        out: the folder.

    Returns:
        The report.

    Raises:
        DataError: the folder cannot be written.
    """
    return write_all(AnomalyPredictions(out), results, errors)
