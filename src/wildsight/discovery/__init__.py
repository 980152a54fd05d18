"""Category discovery: sort an unlabelled folder into the classes you know and the ones you don't.

Paper: NN-GCD (arXiv 2410.21807). Peers: SimGCD, semi-supervised k-means, mean-shift with Ward, k-means.

    from wildsight import CategoryDiscoverer

    discoverer = CategoryDiscoverer(k="auto").fit("world")
    for result in discoverer.results():
        print(result.image, result.name, result.confidence)
    discoverer.save_pretrained("discoverer")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.discovery.estimator import (
        CategoryDiscoverer,
        DiscoveryEvaluation,
        DiscoveryResult,
        Evaluation,
    )

__all__ = ["CategoryDiscoverer", "DiscoveryEvaluation", "DiscoveryResult", "Evaluation"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.discovery import estimator

    return getattr(estimator, name)
