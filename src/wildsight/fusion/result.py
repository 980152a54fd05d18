"""What the segmenter returns of one scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.fusion.drawing import coloured, legend, spectrum
from wildsight.images import from_array, no_larger
from wildsight.results import Mark, MarkedResult

BACKGROUND = frozenset({"background", "unlabelled", "unlabeled", "void"})
"""Classes that mark nothing."""


@dataclass(frozen=True)
class FusionResult(MarkedResult):
    """What the segmenter says of one scene.

    Attributes:
        name: the scene.
        labels: [H, W] int64, class id of each pixel, at the scene's own size.
        confidence: [H, W] float32 in [0, 1]: probability of that class; for saliency, of being salient.
        classes: names by id.
        share: modality -> mean contribution in [0, 1], summing to 1; empty where the method does not tell.
        maps: modality -> [h, w] float32, its contribution at each place.
        missing: modalities that the scene did not have.
        saliency: whether the classes are background and what is salient.
        pictures: modality -> picture, as shown.
        image: the file of its first modality; None where that is none.
    """

    name: str
    labels: np.ndarray
    confidence: np.ndarray
    classes: tuple[str, ...]
    share: Mapping[str, float] = field(default_factory=dict)
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    saliency: bool = False
    pictures: Mapping[str, Image] = field(default_factory=dict)
    image: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary: what part of the picture each class takes, and each modality's contribution."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size
        return {
            "name": self.name,
            "size": list(self.labels.shape[::-1]),
            "area": {c: float(v) for c, v in zip(self.classes, counts, strict=True) if v > 0},
            "share": {k: float(v) for k, v in self.share.items()},
            "missing": list(self.missing),
        }

    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:  # noqa: ARG002  the scene has it
        """One mark for each class that is there, but for the background; its mean confidence is the score."""
        found = []
        for number, name in enumerate(self.classes):
            mask = self.labels == number
            if name.lower() not in BACKGROUND and mask.any():
                found.append(Mark(name, mask, float(self.confidence[mask].mean())))
        return found

    def line(self) -> str:
        """The result on one line of a terminal."""
        parts = ", ".join(f"{name} {value:.2f}" for name, value in self.to_dict()["area"].items())
        lacking = f" (no {', no '.join(self.missing)})" if self.missing else ""
        return f"{self.name}: {parts}{lacking}"

    def tiles(self, mask: np.ndarray | None = None, *, keyed: bool = False) -> list[tuple[Image, str]]:
        """Inputs, truth, prediction and contribution maps, with captions.

        Args:
            mask: the truth, [H, W] class ids.
            keyed: the prediction with its legend, and each map in colours over its own range.
        """
        count = len(self.classes)
        shown = [(picture, name) for name, picture in self.pictures.items()]
        if mask is not None:
            shown.append((coloured(mask, count), "truth"))
        seen = legend(self.labels, self.classes) if keyed else coloured(self.labels, count)
        shown.append((seen, "prediction"))
        if self.saliency:
            shown.append((from_array(np.clip(self.confidence, 0, 1)), "saliency"))
        return shown + (self._keyed_maps() if keyed else self._plain_maps())

    def _plain_maps(self) -> list[tuple[Image, str]]:
        size = self.labels.shape[::-1]
        return [
            (from_array(np.clip(heat, 0, 1)).resize(size), f"{name} contributes {self.share[name]:.0%}")
            for name, heat in self.maps.items()
        ]

    def _keyed_maps(self) -> list[tuple[Image, str]]:
        height, width = self.labels.shape
        return [
            (spectrum(heat, (height, width)), f"{name}: {heat.min():.0%} to {heat.max():.0%}")
            for name, heat in self.maps.items()
            if name not in self.missing
        ]

    def figure(self) -> Any:
        """Inputs, prediction and contribution maps side by side, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        return side_by_side(self.tiles())

    def reduced(self, height: int) -> FusionResult:
        """The same, every so many pixels left out, where it is far higher than ``height`` pixels."""
        step = self.labels.shape[0] // (4 * height)
        if step < 2:
            return self
        pictures = {n: no_larger(p, max(p.size) // step) for n, p in self.pictures.items()}
        labels, confidence = self.labels[::step, ::step], self.confidence[::step, ::step]
        return replace(self, labels=labels, confidence=confidence, pictures=pictures)

    def strip(self, mask: np.ndarray | None = None, height: int = 96) -> Image:
        """All tiles in one picture of the given height."""
        tiles = self.tiles(mask) if mask is not None else self.reduced(height).tiles()
        pictures = [p.resize((max(1, p.width * height // p.height), height)) for p, _ in tiles]
        wide = PILImage.new("RGB", (sum(p.width + 2 for p in pictures) - 2, height), (255, 255, 255))
        at = 0
        for picture in pictures:
            wide.paste(picture, (at, 0))
            at += picture.width + 2
        return wide
