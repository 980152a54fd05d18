"""SCOPE: greedy choice by how much a token adds to the coverage of all tokens, weighed by its saliency.

Paper: "SCOPE: Saliency-Coverage Oriented Token Pruning for Efficient Multimodal LLMs" (NeurIPS 2025,
arXiv 2510.24214). Implemented: ``argmax_v (sum_u max(C(u), sim(u, v)) - C(u)) A_v^alpha``,
``C(u) = max_{s chosen} sim(u, s)``, alpha 0.5.

The task's default: on development questions about nano-llava it answers best on average over counts of all
selectors that look at the picture alone, and is surest of the right answer.

Difference from the published code (read in a digest of the paper alone): coverage starts at 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector


def coverage_greedy(similarity: Tensor, weight: Tensor, count: int) -> Tensor:
    """Indices in the order of choice.

    Only the rows whose coverage a choice changes are looked at again; on a GPU all of them are, so that the
    host need not wait.

    Args:
        similarity: ``[n, n]``.
        weight: ``[n]`` factor of a token's gain.
        count: how many to choose.
    """
    similarity = similarity.double()
    covered = similarity.new_zeros(similarity.shape[0])
    gain = similarity.clamp_min(0.0).sum(dim=0)
    closed = torch.zeros_like(covered, dtype=torch.bool)
    picks = []
    for _ in range(count):
        best = (gain * weight).masked_fill(closed, -torch.inf).argmax()
        picks.append(best)
        closed[best] = True
        now = torch.maximum(covered, similarity[:, best])
        rows = (now > covered).nonzero()[:, 0] if now.device.type == "cpu" else slice(None)
        part, old, new = similarity[rows], covered[rows, None], now[rows, None]
        gain -= ((part - old).clamp_min(0.0) - (part - new).clamp_min(0.0)).sum(dim=0)
        covered = now
    return torch.stack(picks)


@SELECTORS.register("scope")
@dataclass(frozen=True)
class SCOPE(VisualSelector):
    """SCOPE; the default is the paper's."""

    alpha: float = 0.5
    """Exponent of the saliency; 0 is coverage alone."""

    def __post_init__(self) -> None:
        within(self, 0.0, math.inf, "alpha")

    def select(self, view: ImageView, count: int) -> Selection:
        """The tokens that cover the picture, weighed by their saliency."""
        unit = view.unit
        weight = view.score.clamp_min(0.0) ** self.alpha
        return Selection(coverage_greedy(unit @ unit.T, weight, count).sort().values)
