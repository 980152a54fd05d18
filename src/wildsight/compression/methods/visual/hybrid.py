"""A share of the budget by [CLS] saliency, the rest by distance from what is chosen.

Saliency alone leaves out the frame of reference, diversity alone spends tokens on rare background. A
quarter of the budget goes to the tokens that the ensemble of VTC-CLS scores highest; the max-min search of
DivPrune then starts from them. The quarter was chosen among a quarter, a half and three quarters on
nano-llava, on questions that no published figure is measured on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector, keep_best
from wildsight.compression.methods.visual.divprune import farthest
from wildsight.compression.methods.visual.vtc_cls import ensemble


@SELECTORS.register("hybrid")
@dataclass(frozen=True)
class Hybrid(VisualSelector):
    """The hybrid."""

    salient: float = 0.25
    """Share of the budget chosen by saliency, in [0, 1]."""
    K: int = 3
    """Vision layers in the ensemble."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "salient")
        within(self, 1, math.inf, "K")

    @property
    def saliency_layers(self) -> int:
        """K."""
        return self.K

    def select(self, view: ImageView, count: int) -> Selection:
        """The salient tokens, and those farthest from all that are chosen."""
        first = keep_best(ensemble(view.saliency(self.K)), max(1, round(count * self.salient)))
        return Selection(farthest(view.unit, count, first).sort().values)
