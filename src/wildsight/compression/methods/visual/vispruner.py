"""VisPruner: half by [CLS] saliency, the rest thinned out by dropping what has a near duplicate.

Paper: "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs" (ICCV
2025, arXiv 2412.01818). Implemented: ``int(U r)`` tokens by the penultimate layer's saliency; the others,
in descending saliency, are split into even and odd places, and the even ones closest to any odd one are
dropped, at most eight a round.

Difference from the published code: similarity is that of the projected features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector


def thin_out(order: Tensor, unit: Tensor, count: int, step: int) -> Tensor:
    """Drop near duplicates until ``count`` of ``order`` (indices, best first) are left."""
    while order.numel() > count:
        even, odd = order[::2], order[1::2]
        likeness = (unit[even] @ unit[odd].T).amax(dim=1)
        drop = min(step, order.numel() - count, even.numel())
        stay = torch.ones_like(order, dtype=torch.bool)
        stay[2 * likeness.sort(descending=True, stable=True).indices[:drop]] = False
        order = order[stay]
    return order


@SELECTORS.register("vispruner")
@dataclass(frozen=True)
class VisPruner(VisualSelector):
    """VisPruner; the defaults are the paper's."""

    r: float = 0.5
    """Share of the budget chosen by saliency, in [0, 1]."""
    step: int = 8
    """Tokens dropped in one round, at most."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "r")
        within(self, 1, math.inf, "step")

    def select(self, view: ImageView, count: int) -> Selection:
        """Salient tokens, and those of the others that have no near duplicate."""
        order = view.score.sort(descending=True, stable=True).indices
        salient = int(count * self.r)
        rest = thin_out(order[salient:], view.unit, count - salient, self.step)
        return Selection(torch.cat([order[:salient], rest]).sort().values)
