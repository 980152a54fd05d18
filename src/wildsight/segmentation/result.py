"""What the segmenter returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.errors import ConfigError
from wildsight.images import load_image
from wildsight.results import Result

FINAL, DRAFT = (255, 60, 0), (0, 120, 255)


@dataclass(frozen=True)
class SegmentationResult(Result):
    """The outlines in one picture, one per prompt.

    Attributes:
        image: file, or None for a picture given as pixels.
        masks: [P, H, W] bool at the picture's size, final pass.
        drafts: [P, H, W] bool, first pass; equal to ``masks`` for a method with one pass.
        logits: [P, h, w] float32 raw logits of the final pass, low resolution; 0 is the edge.
        prompts: what each mask was asked with, picture pixels: ``{"box": [x1, y1, x2, y2]}`` or
            ``{"points": [[x, y], ...]}``.
    """

    image: Path | None
    masks: NDArray[np.bool_]
    drafts: NDArray[np.bool_]
    logits: NDArray[np.float32]
    prompts: tuple[dict[str, Any], ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[H, W] bool: the union of the masks."""
        return np.asarray(self.masks.any(0))

    @property
    def draft(self) -> NDArray[np.bool_]:
        """[H, W] bool: the union of the drafts."""
        return np.asarray(self.drafts.any(0))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary: size, prompts, and the area of each mask in pixels."""
        return {
            "image": None if self.image is None else str(self.image),
            "height": self.masks.shape[1],
            "width": self.masks.shape[2],
            "prompts": list(self.prompts),
            "areas": [int(m.sum()) for m in self.masks],
            "draft_areas": [int(m.sum()) for m in self.drafts],
        }

    def overlay(self, picture: Image | None = None) -> Image:
        """The final masks over the picture, red, with the draft's outline in blue."""
        shown = picture or self._picture()
        return paint(paint(shown, self.mask, FINAL), self.draft, DRAFT, outline=True)

    def _picture(self) -> Image:
        if self.image is None:
            raise ConfigError("the picture is not known", hint="pass it to overlay(picture)")
        return load_image(self.image)

    def figure(self) -> Any:
        """Picture, draft and final side by side, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        shown = self._picture()
        draft, final = paint(shown, self.draft, DRAFT), paint(shown, self.mask, FINAL)
        return side_by_side([(shown, "picture"), (draft, "draft"), (final, "final")])


def paint(
    picture: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int], *, outline: bool = False
) -> Image:
    """A picture with a [H, W] mask laid over it, or its outline."""
    from wildsight.report.plots import outline_mask

    pixels = np.asarray(picture.convert("RGB"), np.float32).copy()
    edge = outline_mask(mask, picture.size)
    if not outline:
        pixels[mask] = 0.5 * pixels[mask] + 0.5 * np.asarray(colour, np.float32)
    pixels[edge] = colour
    return PILImage.fromarray(np.rint(pixels).astype(np.uint8))


@dataclass(frozen=True)
class Evaluation:
    """Scores of a segmenter on the test half of a data set.

    Attributes:
        rows: one mapping per category, then ``mean``: ``iou``, ``boundary_iou`` of the final masks and
            ``draft_iou``, ``draft_boundary_iou`` of the first pass, in [0, 1].
        pictures: one mapping per picture: file, category, defect and the same metrics.
        results: the predictions, in the order of ``pictures``; empty unless asked for.
        errors: one sentence per picture that could not be used.
        protocol: split, its hash, and the prompt: ``ORACLE`` where it comes from the true mask.
    """

    rows: list[dict[str, Any]]
    pictures: list[dict[str, Any]]
    results: list[SegmentationResult]
    errors: list[str]
    protocol: dict[str, Any]
