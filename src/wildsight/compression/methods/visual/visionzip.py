"""VisionZip: the dominant tokens by [CLS] attention, and a few that summarise all the others.

Paper: "VisionZip: Longer is Better but Not Necessary in Vision Language Models" (CVPR 2025, arXiv
2412.04467). Implemented: dominant tokens by the penultimate layer; among the others evenly spaced targets,
each other token joins the target whose key is most alike, and a target becomes the mean of its group. 54 +
10 of 64 tokens.

Differences from the published code (whose merging step was not at hand):
    1. Groups are averaged after the projector, because features enter there; the projector is not linear,
       so the averages differ.
    2. The [CLS] feature itself is not among the tokens, because LLaVA drops it.
    3. Group membership uses features where a tower's keys are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector, keep_best
from wildsight.compression.methods.visual.baselines import grid_indices


@SELECTORS.register("visionzip")
@dataclass(frozen=True)
class VisionZip(VisualSelector):
    """VisionZip; the default is the paper's."""

    contextual: float = 10 / 64
    """Share of the budget that goes to merged tokens."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "contextual")

    def select(self, view: ImageView, count: int) -> Selection:
        """Dominant tokens as they are, and the means of groups of the others."""
        n = view.features.shape[0]
        merged = min(round(count * self.contextual), n - count)
        dominant = keep_best(view.score, count - merged)
        if merged == 0:
            return Selection(dominant)
        rest = torch.ones(n, dtype=torch.bool, device=dominant.device)
        rest[dominant] = False
        others = rest.nonzero()[:, 0]
        targets = others[grid_indices(others.numel(), merged)]
        metric = view.unit if view.keys is None else torch.nn.functional.normalize(view.keys.float(), dim=-1)
        group = (metric[others] @ metric[targets].T).argmax(dim=1)
        group[torch.isin(others, targets)] = torch.arange(merged, device=group.device)
        features = view.features.clone()
        for number, target in enumerate(targets):
            features[target] = view.features[others[group == number]].mean(dim=0)
        keep = torch.cat([dominant, targets]).sort().values
        return Selection(keep, features[keep])
