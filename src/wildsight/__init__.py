"""WildSight: vision foundation models, taken past the edge of their training data, at a price you can pay.

``import wildsight`` loads neither torch nor anything from the network; the public objects come on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.anomaly import AnomalyDetector
    from wildsight.composition import CompositionRecognizer
    from wildsight.compression import compress
    from wildsight.continual import ContinualLearner
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.fusion import FusionSegmenter
    from wildsight.retrieval import SketchRetriever
    from wildsight.segmentation import AnomalySegmenter
    from wildsight.spatial import SpatialGrounder

__version__ = "0.1.0"
_PUBLIC = {
    "AnomalyDetector": "wildsight.anomaly",
    "AnomalySegmenter": "wildsight.segmentation",
    "CategoryDiscoverer": "wildsight.discovery",
    "CompositionRecognizer": "wildsight.composition",
    "ContinualLearner": "wildsight.continual",
    "FusionSegmenter": "wildsight.fusion",
    "SketchRetriever": "wildsight.retrieval",
    "SpatialGrounder": "wildsight.spatial",
    "compress": "wildsight.compression",
}
__all__ = [
    "AnomalyDetector",
    "AnomalySegmenter",
    "CategoryDiscoverer",
    "CompositionRecognizer",
    "ContinualLearner",
    "FusionSegmenter",
    "SketchRetriever",
    "SpatialGrounder",
    "__version__",
    "compress",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'wildsight' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
