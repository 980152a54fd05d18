"""The segmenter as one ONNX graph: pixels of any size and prompts in, raw logits of both passes out.

Resizing and normalisation are in the graph; the low-rank updates are folded; the mask's threshold (0) lies in
the JSON file beside it, where it can be changed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.export import ExportReport, export_onnx, open_session, pillow_resize
from wildsight.segmentation.adapter import PromptedSam
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.estimator import AnomalySegmenter
from wildsight.segmentation.methods.spt import MergedSPT, SPTAdapter
from wildsight.segmentation.result import SegmentationResult

PICTURE = {1: "height", 2: "width"}
NAME = "segmenter"


class SegmenterGraph(nn.Module):
    """Everything between pixels and raw logits, as one module on a copy of the base.

    Args:
        segmenter: with the geometry ``squash``; it is left as it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, segmenter: AnomalySegmenter) -> None:
        super().__init__()
        if segmenter.settings.geometry != "squash":
            raise UnsupportedModelError("only the geometry squash can be exported", hint="fit with squash")
        self.base = _copied(segmenter.base)
        adapter = segmenter.network.adapter
        adapter = adapter.spt if isinstance(adapter, MergedSPT) else adapter
        adapter = copy.deepcopy(adapter).cpu()
        ready = MergedSPT(adapter, self.base) if isinstance(adapter, SPTAdapter) else adapter
        self.network = PromptedSam(self.base, ready).eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(self.base.backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(self.base.backbone.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the final and of the draft pass, each ``[P, H, W]``; above 0 is the defect.

        Args:
            pixels: ``[1, H, W, 3]`` uint8 RGB.
            boxes: ``[P, 4]`` float32 (x1, y1, x2, y2) in pixels of the picture.
        """
        side = self.base.image_size
        height, width = pixels.shape[1], pixels.shape[2]
        square = (pillow_resize(pixels, (side, side)) / 255.0 - self.mean) / self.std
        embedding = self.network.encode(square)
        relation = self.network.adapter.relation(embedding, None)
        # Sizes as tensors, so that they stay open in the traced graph.
        wide = torch.ones_like(pixels[0, 0, :, 0], dtype=torch.float32).sum()
        high = torch.ones_like(pixels[0, :, 0, 0], dtype=torch.float32).sum()
        placed = boxes * side / torch.stack([wide, high, wide, high])
        masks = self.network.decode(embedding, self.base.prompt(boxes=placed[None]), relation)
        final, draft = (
            interpolate(m, size=(height, width), mode="bilinear", align_corners=False)[0]
            for m in (masks.final, masks.draft)
        )
        return final, draft


def _copied(base: SamBase) -> SamBase:
    backbone = copy.copy(base.backbone)
    backbone.model = copy.deepcopy(base.model).cpu()
    return SamBase(backbone)


@dataclass(frozen=True)
class SegmenterExport:
    """What an export left, and how far it is from the segmenter.

    Attributes:
        report: onnxruntime against torch on the same graph.
        pixels_differ: onnxruntime against `AnomalySegmenter.predict`: largest share of a mask's pixels on
            which the two disagree; Pillow's resize is rounded elsewhere than the graph's.
    """

    report: ExportReport
    pixels_differ: float

    def lines(self) -> list[str]:
        """What to say of it."""
        share = f"{self.pixels_differ:.2%} of the picture's pixels at most"
        return [self.report.line(), f"against predict (Pillow's resize): masks differ on {share}"]


def export_segmenter(
    segmenter: AnomalySegmenter,
    folder: str | Path,
    samples: Sequence[tuple[Image, Sequence[Sequence[float]]]],
    *,
    tolerance: float = 1e-3,
) -> SegmenterExport:
    """Write ``segmenter.onnx`` and ``segmenter.json``, after running both sides on ``samples``.

    Args:
        segmenter: fitted or zero-shot; it is left as it is.
        folder: takes both files.
        samples: at least one picture with its boxes, pixels.
        tolerance: largest absolute difference allowed in the logits.

    Raises:
        ConfigError: no sample, or the export extra is missing.
        UnsupportedModelError: not traceable, another geometry, or further from torch than ``tolerance``.
    """
    if not samples:
        raise ConfigError("no picture to prove the export on", hint="give at least one with its boxes")
    given = [
        {
            "pixels": torch.from_numpy(np.array(picture.convert("RGB")))[None],
            "boxes": torch.tensor([list(b) for b in boxes], dtype=torch.float32),
        }
        for picture, boxes in samples
    ]
    example = {
        "pixels": torch.randint(256, (1, 97, 131, 3), dtype=torch.uint8),
        "boxes": torch.tensor([[4.0, 6, 60, 44], [10, 20, 100, 90], [50, 2, 120, 70]]),
    }
    report = export_onnx(
        SegmenterGraph(segmenter).eval(),
        example,
        folder,
        name=NAME,
        outputs=("final", "draft"),
        dynamic={"pixels": PICTURE, "boxes": {0: "prompts"}},
        tolerance=tolerance,
        samples=given,
        settings={
            "threshold": 0.0,
            "method": segmenter.settings.method,
            "base": segmenter.base.name,
            "base_sha256": segmenter.base.backbone.sha,
            "meaning": "a pixel is defect where its logit is above the threshold",
        },
    )
    session = open_session(report.file)
    worst = 0.0
    for (picture, boxes), one in zip(samples, given, strict=True):
        found = session.run(["final"], {k: v.numpy() for k, v in one.items()})[0] > 0
        expected: SegmentationResult = segmenter.predict(picture, boxes=boxes)[0]
        worst = max(worst, float((found != expected.masks).mean()))
    return SegmenterExport(report, worst)
