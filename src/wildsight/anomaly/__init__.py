"""Anomaly detection: find what is wrong in pictures, from good ones alone, one model for all products.

Paper: RAS (ECAI 2024, arXiv 2409.06285). Peers: UniAD, PatchCore, PaDiM.

    from wildsight import AnomalyDetector

    detector = AnomalyDetector("ras", backbone="nano-conv").fit("world", epochs=5)
    result = detector.predict("new.png")[0]
    print(result.score, result.threshold, result.anomalous)
    detector.save_pretrained("detector")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.anomaly.estimator import AnomalyDetector, AnomalyEvaluation, AnomalyResult

__all__ = ["AnomalyDetector", "AnomalyEvaluation", "AnomalyResult"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.anomaly import estimator

    return getattr(estimator, name)
