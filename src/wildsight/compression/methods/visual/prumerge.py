"""LLaVA-PruMerge: keep what [CLS] attends to, and fold every dropped token into its nearest kept ones.

Paper: "LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models" (arXiv 2403.15388).
Implemented: choice by the [CLS] row of the penultimate layer; every kept token becomes the mean, weighted
by [CLS] attention, of itself and of its ``k`` nearest dropped tokens by key.

Differences from the published code:
    1. The budget is a given count, where the paper takes outliers of the attention; ``adaptive_count``
       gives the paper's own.
    2. Averages are taken after the projector, because features enter there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector, keep_best


def adaptive_count(scores: Tensor) -> int:
    """Tokens whose attention lies above the upper quartile by 1.5 interquartile ranges; at least one."""
    low, high = torch.quantile(scores.float(), torch.tensor([0.25, 0.75], device=scores.device))
    return max(1, int((scores > high + 1.5 * (high - low)).sum()))


@SELECTORS.register("prumerge")
@dataclass(frozen=True)
class PruMerge(VisualSelector):
    """PruMerge; the default is the paper's."""

    k: int = 32
    """Dropped neighbours that a kept token absorbs."""

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "k")

    def select(self, view: ImageView, count: int) -> Selection:
        """The tokens that [CLS] attends to, each merged with its nearest dropped ones."""
        keep = keep_best(view.score, count)
        metric = view.unit if view.keys is None else torch.nn.functional.normalize(view.keys.float(), dim=-1)
        likeness = metric[keep] @ metric.T
        likeness[:, keep] = -torch.inf
        near = likeness.topk(min(self.k, view.features.shape[0] - count), dim=1).indices
        group = torch.cat([keep[:, None], near], dim=1)
        weight = view.score[group]
        weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12)
        merged = (view.features.float()[group] * weight[..., None]).sum(dim=1)
        return Selection(keep, merged.to(view.features.dtype))
