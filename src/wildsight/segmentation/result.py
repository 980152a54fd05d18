"""What the segmenter returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.Image import Image, Resampling

from wildsight.errors import ConfigError
from wildsight.estimators.evaluation import Evaluation
from wildsight.images import load_image
from wildsight.results import Mark, MarkedResult
from wildsight.segmentation.data import MaskSample, read_mask

if TYPE_CHECKING:
    from wildsight.report import Report

FINAL, DRAFT, TRUTH = (255, 60, 0), (0, 120, 255), (0, 190, 70)


@dataclass(frozen=True)
class SegmentationResult(MarkedResult):
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

    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:  # noqa: ARG002  the masks have it
        """The final masks, each called ``defect``."""
        return [Mark("defect", mask) for mask in self.masks]

    def line(self) -> str:
        """The result on one line of a terminal."""
        return f"{self.image}: {', '.join(str(int(m.sum())) for m in self.masks)} pixels"

    def overlay(self, picture: Image | None = None) -> Image:
        """The final masks over the picture, red, with the draft's outline in blue."""
        shown = picture or self._picture()
        return paint(paint(shown, self.mask, FINAL), self.draft, DRAFT, outline=True)

    def strip(self, picture: Image, truth: NDArray[np.bool_] | None = None) -> Image:
        """Picture, truth where it is known, draft and final, side by side."""
        shown = [picture] if truth is None else [picture, paint(picture, truth, TRUTH)]
        return beside([*shown, paint(picture, self.draft, DRAFT), paint(picture, self.mask, FINAL)])

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
    """A picture with a [H, W] mask, stretched to it, laid over it, or its outline."""
    from wildsight.report.plots import outline_mask

    shown = picture.convert("RGB") if picture.mode != "RGB" else picture.copy()
    if not outline:
        half = PILImage.fromarray(mask.astype(np.uint8) * 128)
        shown.paste(colour, mask=half.resize(picture.size, Resampling.NEAREST))
    shown.paste(colour, mask=PILImage.fromarray(outline_mask(mask, picture.size)))
    return shown


def beside(pictures: Sequence[Image], gap: int = 4) -> Image:
    """Pictures of one height in a row, on white."""
    height = max(p.height for p in pictures)
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    strip = PILImage.new("RGB", (width, height), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    return strip


@dataclass(frozen=True, kw_only=True)
class SegmentationEvaluation(Evaluation):
    """Scores of a segmenter: rows per category, then ``mean``.

    ``iou`` and ``boundary_iou`` are of the final masks, ``draft_iou`` and ``draft_boundary_iou`` of the first
    pass, in [0, 1]. The ``protocol`` says ``ORACLE`` where the prompts come from the true masks.

    Attributes:
        scores: one mapping per picture: file, category, defect and the same metrics.
        samples: those pictures with their masks, in the same order.
        results: the predictions, in the same order; empty unless asked for.
    """

    caption: ClassVar[str] = "Per category and as a mean"

    scores: list[dict[str, Any]]
    samples: list[MaskSample]
    results: list[SegmentationResult] = field(default_factory=list)

    def show(self, report: Report) -> None:
        """Say where the prompts come from."""
        if "ORACLE" in str(self.protocol.get("prompt")):
            report.warning("The prompts come from the true masks: this measures outlines, not detection.")

    def pictures(self, each: int = 6) -> list[tuple[Image, str]]:
        """The best and the worst outlines: picture, truth (green), draft (blue), final (red).

        None where the predictions were not kept.
        """
        if not self.results:
            return []
        order = sorted(range(len(self.scores)), key=lambda i: self.scores[i]["iou"])
        chosen = dict.fromkeys([*order[-each:][::-1], *order[:each]])
        return [(self._strip(i), self._caption(i)) for i in chosen]

    def _strip(self, i: int) -> Image:
        sample = self.samples[i]
        return self.results[i].strip(load_image(sample.image), read_mask(sample))

    def _caption(self, i: int) -> str:
        row = self.scores[i]
        return f"{row['category']}/{row['defect']}: IoU {row['iou']:.2f}, draft {row['draft_iou']:.2f}"
