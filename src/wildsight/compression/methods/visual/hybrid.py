"""A share of the budget by [CLS] saliency, the rest by distance from what is chosen.

Saliency alone leaves out the frame of reference, diversity alone spends tokens on rare background. A
quarter of the budget goes to the tokens that the ensemble of VTC-CLS scores highest; the max-min search of
DivPrune then starts from them. The quarter was chosen among a quarter, a half and three quarters on
nano-llava, on questions that no published figure is measured on.
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.visual.divprune import farthest
from wildsight.compression.methods.visual.vtc_cls import ensemble, keep_best


@dataclass(frozen=True)
class HybridConfig:
    """Settings of the hybrid."""

    salient: float = 0.25
    """Share of the budget chosen by saliency, in [0, 1]."""
    K: int = 3
    """Vision layers in the ensemble."""


def select(view: ImageView, count: int, config: HybridConfig | None = None) -> Selection:
    """The hybrid on one image."""
    config = config or HybridConfig()
    first = keep_best(ensemble(view.saliency(config.K)), max(1, round(count * config.salient)))
    return Selection(farthest(view.unit, count, first).sort().values)
