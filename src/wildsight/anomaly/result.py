"""What the detector returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.anomaly.boxes import AnomalyBox, boxes_of, regions_of
from wildsight.anomaly.data import AnomalySample, read_mask
from wildsight.datasets.masks import resize_mask
from wildsight.errors import ConfigError, WildSightError
from wildsight.estimators.evaluation import Evaluation
from wildsight.images import image_size, load_image, no_larger
from wildsight.results import Mark, MarkedResult


@dataclass(frozen=True)
class AnomalyResult(MarkedResult):
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

    @property
    def alarm(self) -> bool:
        """Whether a command that made it ends with exit code 1."""
        return self.anomalous

    def line(self) -> str:
        """The result on one line of a terminal."""
        verdict = "ANOMALOUS" if self.anomalous else "good"
        return f"{self.image}: {verdict} score {self.score:.4f} threshold {self.threshold:.4f}"

    def boxes(self, picture_size: tuple[int, int] | None = None, **settings: Any) -> list[AnomalyBox]:
        """Boxes around what lies above the threshold (`boxes_of`); none where the picture is good."""
        if not self.anomalous:
            return []
        return boxes_of(self.map, self.threshold, picture_size=picture_size, **settings)

    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:
        """What lies above the threshold, one mark called ``anomaly`` a region, with its raw peak as score.

        Args:
            size: (width, height) of the picture; that of its file, else of the map, where not given.
        """
        if not self.anomalous:
            return []
        if size is None:
            size = self.map.shape[::-1] if self.image is None else image_size(self.image)
        found = regions_of(self.map, self.threshold)
        return [Mark("anomaly", resize_mask(region, size[::-1]), peak) for region, peak in found]

    def overlay(self, picture: Image | None = None) -> Image:
        """The heat map over the picture; red is above the threshold."""
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


@dataclass(frozen=True, kw_only=True)
class AnomalyEvaluation(Evaluation):
    """Scores of a detector on a data set: rows per category, then ``mean``, metrics in [0, 1].

    Attributes:
        scores: raw score of each test picture, in the order of ``samples``.
        maps: [N, H, W] float32.
        samples: the test pictures that could be read.
        limits: [N] threshold of each picture's category; None while a fit goes on.
    """

    scores: np.ndarray
    maps: np.ndarray
    samples: list[AnomalySample]
    limits: np.ndarray | None = None

    def summary(self) -> list[str]:
        """At the thresholds: false alarms among the good pictures, and defects found, by kind."""
        if self.limits is None:
            return []
        labels, above = np.array([s.label for s in self.samples]), self.scores > self.limits
        alarms, good = int(above[labels == 0].sum()), int((labels == 0).sum())
        hits, bad = int(above[labels == 1].sum()), int((labels == 1).sum())
        kinds: dict[str, list[bool]] = {}
        for sample, over in zip(self.samples, above, strict=True):
            if sample.label:
                kinds.setdefault(sample.defect, []).append(bool(over))
        counted = ", ".join(f"{kind} {sum(v)} of {len(v)}" for kind, v in sorted(kinds.items()))
        alarm = f"{alarms} false alarms among {good} good pictures"
        lines = [f"at this threshold: {alarm}, {hits} of {bad} defects found"]
        return [*lines, f"found by kind: {counted}"] if len(kinds) > 1 else lines

    def pictures(self, each: int = 4) -> list[tuple[Image, str]]:
        """Heat maps of the defects found best, the defects missed most, and the worst false alarms."""
        from wildsight.estimators.predictions import SMALL
        from wildsight.report.plots import overlay_heatmap

        if self.limits is None:
            return []
        labels = np.array([s.label for s in self.samples])
        excess = self.scores / np.maximum(self.limits, 1e-12)
        bad, good = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        chosen = [
            *(("found", i) for i in bad[np.argsort(-excess[bad])[:each]]),
            *(("missed most", i) for i in bad[np.argsort(excess[bad])[:each]]),
            *(("highest good", i) for i in good[np.argsort(-excess[good])[:each]]),
        ]
        shown = []
        for kind, i in chosen:
            sample = self.samples[i]
            mask = _mask(sample, self.maps.shape[1:])
            picture = no_larger(load_image(sample.image), SMALL)
            heat = overlay_heatmap(picture, self.maps[i] / max(self.limits[i], 1e-12), mask)
            shown.append(
                (heat, f"{kind}: {sample.category}/{sample.defect}, {excess[i]:.2f} x the threshold")
            )
        return shown


def _mask(sample: AnomalySample, size: tuple[int, int]) -> np.ndarray | None:
    """A sample's mask, or None where there is none to be read."""
    try:
        return read_mask(sample, size) if sample.masks else None
    except WildSightError:
        return None
