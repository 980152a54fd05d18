"""Spatial grounding: where in metres is the black car, from one picture, for any focal length.

Paper: LLMI3D (arXiv 2408.07422). Peers: numbers decoded as text, a Cube R-CNN-like head, and LLMI3D
without its parts.

    from wildsight import SpatialGrounder

    grounder = SpatialGrounder("llmi3d", backbone="nano-llava").fit("world", epochs=5)
    result = grounder.predict("street.jpg", "the black car", focal=1200)[0]
    print(result.answer, result.boxes[0].centre, result.boxes[0].spread, result.intrinsics_from)
    result.save_gltf("car.gltf")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.spatial.boxes import Box
    from wildsight.spatial.estimator import SpatialGrounder
    from wildsight.spatial.evaluation import SpatialEvaluation
    from wildsight.spatial.iou3d import iou_3d, iou_3d_matrix
    from wildsight.spatial.result import GroundingResult

_HOMES = {
    "Box": "boxes",
    "GroundingResult": "result",
    "SpatialEvaluation": "evaluation",
    "SpatialGrounder": "estimator",
    "iou_3d": "iou3d",
    "iou_3d_matrix": "iou3d",
}
__all__ = ["Box", "GroundingResult", "SpatialEvaluation", "SpatialGrounder", "iou_3d", "iou_3d_matrix"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
