"""FasterVLM: the tokens that [CLS] attends to in one layer.

Paper: "[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster"
(arXiv 2412.01818, first version). This is VTC-CLS with one layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector, keep_best


@SELECTORS.register("fastervlm")
@dataclass(frozen=True)
class FasterVLM(VisualSelector):
    """FasterVLM."""

    def select(self, view: ImageView, count: int) -> Selection:
        """The ``count`` tokens that [CLS] attends to most in the layer that gives the features."""
        return Selection(keep_best(view.score, count))
