"""Fusion: RGB, depth, thermal, event, LiDAR: one mask, also when a sensor is broken or missing.

Paper: PWRF (IJCV 2025, arXiv 2410.14944). Peers: concatenation, summation, cross-attention, token selection,
the single best modality.

    from wildsight import FusionSegmenter

    segmenter = FusionSegmenter("pwrf", backbone="nano-conv").fit("world", epochs=5)
    result = segmenter.predict({"rgb": "a.png", "thermal": "a_ir.png"})[0]
    print(result.share)
    segmenter.save_pretrained("segmenter")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.fusion.estimator import FusionEvaluation, FusionResult, FusionSegmenter

__all__ = ["FusionEvaluation", "FusionResult", "FusionSegmenter"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.fusion import estimator

    return getattr(estimator, name)
