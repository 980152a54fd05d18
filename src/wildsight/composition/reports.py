"""What a prediction leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.composition.result import PairResult
from wildsight.estimators.predictions import Predictions, write_all

COLUMNS = ("image", "attribute", "object", "probability", "known")


class CompositionPredictions(Predictions[PairResult]):
    """The best pair of each picture, the least certain ones in the report."""

    title, caption = "Compositions", "Least certain first"
    shown = 36

    def rows(self, result: PairResult) -> list[Mapping[str, Any]]:
        """The best pair alone."""
        value = result.to_dict()
        return [{name: value[name] for name in COLUMNS}]

    def draw(self, number: int, result: PairResult, picture: Image | None) -> None:  # noqa: ARG002
        """Keep the picture."""
        if result.image and self.gallery.wants(result.probability):
            shown = self.picture_of(result.image, picture)
            if shown is not None:
                self.gallery.add(result.probability, shown, _caption(result))


def write_predictions(results: Sequence[PairResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction; returns its report."""
    return write_all(CompositionPredictions(out), results, errors)


def _caption(result: PairResult) -> str:
    best = ", ".join(f"{p.text} {p.probability:.2f}" for p in result.pairs[:3])
    return best if result.known else f"none of these (best: {best})"
