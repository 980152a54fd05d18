"""What the detector returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.anomaly.boxes import AnomalyBox, boxes_of
from wildsight.anomaly.data import AnomalySample
from wildsight.errors import ConfigError
from wildsight.images import load_image
from wildsight.results import Result


@dataclass(frozen=True)
class AnomalyResult(Result):
    """What the detector says of one picture.

    Attributes:
        image: file, or None for a picture given as pixels.
        score: raw anomaly score, >= 0, unbounded; comparable within one detector only.
        threshold: limit for ``anomalous``, set on good pictures.
        anomalous: ``score > threshold``.
        map: [H, W] float32, H = W = the detector's image size; the picture was stretched to it. Of a picture
            seen in tiles: at the tiles' scale, with the picture's own shape.
        category: the category whose threshold was used; None for the global one.
    """

    image: Path | None
    score: float
    threshold: float
    anomalous: bool
    map: np.ndarray
    category: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary without the map."""
        peak = np.unravel_index(int(self.map.argmax()), self.map.shape)
        height, width = self.map.shape
        return {
            "image": None if self.image is None else str(self.image),
            "score": self.score,
            "threshold": self.threshold,
            "anomalous": self.anomalous,
            "category": self.category,
            "peak_x": float((peak[1] + 0.5) / width),
            "peak_y": float((peak[0] + 0.5) / height),
        }

    def boxes(self, picture_size: tuple[int, int] | None = None, **settings: Any) -> list[AnomalyBox]:
        """Boxes around what lies above the threshold (`boxes_of`); none where the picture is good."""
        if not self.anomalous:
            return []
        return boxes_of(self.map, self.threshold, picture_size=picture_size, **settings)

    def overlay(self, picture: Image | None = None) -> Image:
        """The heat map over the picture; red is at or above the threshold."""
        from wildsight.report.plots import overlay_heatmap

        if picture is None and self.image is None:
            raise ConfigError("the picture is not known", hint="pass it to overlay(picture)")
        shown = picture or load_image(self.image or "")
        return overlay_heatmap(shown, self.map / max(self.threshold, 1e-12))

    def figure(self) -> Any:
        """Picture and heat map side by side, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        if self.image is None:
            raise ConfigError("the picture is not known", hint="use overlay(picture)")
        return side_by_side(
            [(load_image(self.image), "picture"), (self.overlay(), f"score {self.score:.3f}")]
        )


@dataclass(frozen=True)
class Evaluation:
    """Scores of a detector on a data set.

    Attributes:
        rows: one mapping per category, then ``mean``: image and pixel metrics in [0, 1].
        scores: raw score of each test picture, in the order of ``samples``.
        maps: [N, H, W] float32.
        samples: the test pictures that could be read.
        errors: one sentence per picture that could not, or whose mask could not.
        protocol: split, its hash and its assumptions.
    """

    rows: list[dict[str, Any]]
    scores: np.ndarray
    maps: np.ndarray
    samples: list[AnomalySample]
    errors: list[str]
    protocol: dict[str, Any]
