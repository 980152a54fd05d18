"""Sketch retrieval: find photos by a drawing, for classes that were never trained.

Paper: RAMLN (arXiv 2412.00120, IEEE TCSVT 2025). Peers: triplet, fixed-margin quadruplet, InfoNCE, a margin
network without memory, a SAKE-like loss, the tower untouched.

    from wildsight import SketchRetriever

    retriever = SketchRetriever(backbone="nano-clip").fit("world")
    retriever.index(photos, "photos.db")
    for hit in retriever.search("teapot.png", "photos.db")[0].hits:
        print(hit.path, hit.distance)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.retrieval.estimator import RetrievalEvaluation, SearchResult, SketchRetriever
    from wildsight.retrieval.estimator import RetrievalEvaluation as Evaluation

__all__ = ["Evaluation", "RetrievalEvaluation", "SearchResult", "SketchRetriever"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.retrieval import estimator

    return getattr(estimator, "RetrievalEvaluation" if name == "Evaluation" else name)
