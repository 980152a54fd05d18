"""Composition: recognise "wet cat" though training only had "wet dog" and "dry cat".

Paper: HDA-OE (arXiv 2412.00121). Peers: zero-shot CLIP, visual product, CompCos, CSP, Troika-style.

    from wildsight import CompositionRecognizer

    recognizer = CompositionRecognizer().fit("world")
    result = recognizer.predict("new.png", pairs=["wet cat", "dry dog"])[0]
    print(result.attribute, result.object, result.probability)
    recognizer.save_pretrained("recognizer")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.composition.estimator import CompositionEvaluation, CompositionRecognizer, PairResult
    from wildsight.composition.estimator import CompositionEvaluation as Evaluation

__all__ = ["CompositionEvaluation", "CompositionRecognizer", "Evaluation", "PairResult"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from wildsight.composition import estimator

    return getattr(estimator, "CompositionEvaluation" if name == "Evaluation" else name)
