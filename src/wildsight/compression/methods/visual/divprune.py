"""DivPrune: the subset whose closest pair is as far apart as a greedy search can make it.

Paper: "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models" (CVPR 2025, arXiv
2503.02175). Implemented: cosine distance; the first pick is the token whose nearest neighbour is farthest,
every further one the token farthest from all chosen ones.

Difference from the published code: chosen tokens are excluded, so that duplicates cannot be chosen twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector


def farthest(unit: Tensor, count: int, chosen: Tensor | None = None) -> Tensor:
    """Greedy max-min choice.

    Args:
        unit: ``[n, D]`` features of length one.
        count: how many to choose in all, those of ``chosen`` included.
        chosen: ``[m]`` indices to begin with; none begins with the most isolated token.

    Returns:
        ``[count]`` indices in the order of choice.
    """
    n = unit.shape[0]
    if chosen is None or not chosen.numel():
        distance = (1.0 - unit @ unit.T).fill_diagonal_(torch.inf)
        nearest = distance.amin(dim=1)
        picks = [nearest.argmax() if n > 1 else torch.zeros((), dtype=torch.long, device=unit.device)]
    else:
        picks = list(chosen)
    gap = (1.0 - unit @ unit[torch.stack(picks)].T).amin(dim=1)
    gap[torch.stack(picks)] = -torch.inf
    while len(picks) < count:
        best = gap.argmax()
        picks.append(best)
        gap = torch.minimum(gap, 1.0 - unit @ unit[best])
        gap[best] = -torch.inf
    return torch.stack(picks)


@SELECTORS.register("divprune")
@dataclass(frozen=True)
class DivPrune(VisualSelector):
    """DivPrune."""

    @property
    def saliency_layers(self) -> int:
        """None: it looks at features alone."""
        return 0

    def select(self, view: ImageView, count: int) -> Selection:
        """The most spread-out ``count`` tokens."""
        return Selection(farthest(view.unit, count).sort().values)
