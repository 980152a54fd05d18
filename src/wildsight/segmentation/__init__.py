"""Segmentation: outline a defect exactly, from a box or a few points; SAM fine-tuned on a few dozen masks.

Paper: SPT (AAAI 2025, arXiv 2411.17217). Peers: stock SAM, decoder tuning, LoRA, SAM-Adapter, Conv-LoRA.

    from wildsight import AnomalySegmenter

    segmenter = AnomalySegmenter("spt", backbone="nano-sam").fit("world", epochs=4)
    result = segmenter.predict("part.png", boxes=[(40, 52, 90, 80)])[0]
    print(result.masks.shape, result.masks.sum())
    segmenter.save_pretrained("adapter")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.segmentation.estimator import AnomalySegmenter, SegmentationEvaluation, SegmentationResult
    from wildsight.segmentation.estimator import SegmentationEvaluation as Evaluation

__all__ = ["AnomalySegmenter", "Evaluation", "SegmentationEvaluation", "SegmentationResult"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.segmentation import estimator

    return getattr(estimator, "SegmentationEvaluation" if name == "Evaluation" else name)
