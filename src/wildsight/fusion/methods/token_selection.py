"""Token selection: one modality leads, and at each position the most informative of the others joins it.

Paper: after "Delivering Arbitrary-Modal Semantic Segmentation" (CMNeXt, CVPR 2023, arXiv 2303.01480).
Implemented: the self-query hub (a score per auxiliary token, then the strongest token at each position), the
parallel pooling mixer, and the addition to the leading modality.

Differences:
    1. The leading modality, where missing, is replaced by zeros, and so is a missing auxiliary one.
    2. Feature rectification and fusion (CMX) are one gate and one CBR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wildsight.estimators.registry import Range, check_ranges
from wildsight.fusion.fused import ConvNormReLU, Fused, on_present, presence
from wildsight.fusion.methods import METHODS, FusionMethod

ODD: Range = (lambda sides: all(isinstance(k, int) and k % 2 == 1 for k in sides), "give odd numbers")


@METHODS.register("token-selection")
@dataclass(frozen=True, kw_only=True)
class TokenSelection(FusionMethod):
    """Token selection with its hyper-parameters; the first modality leads."""

    title = "token selection"

    pools: tuple[int, ...] = (3, 7, 11)
    """Sides of the mixer's pooling windows, odd."""

    def __post_init__(self) -> None:
        check_ranges(self, pools=ODD)

    def module(self) -> TokenSelectionFusion:
        """The leading modality, joined by the selected token of the others."""
        return TokenSelectionFusion(self)


class TokenSelectionFusion(nn.Module):
    """The leading modality and the selected token of the others."""

    def __init__(self, config: TokenSelection) -> None:
        super().__init__()
        d, others = config.width, max(1, config.modalities - 1)
        self.each = nn.ModuleList(ConvNormReLU(config.channels, d) for _ in range(config.modalities))
        self.score = nn.ModuleList(nn.Conv2d(d, 1, 1) for _ in range(others))
        self.local = nn.Conv2d(d, d, 7, padding=3, groups=d)
        self.pools = nn.ModuleList(nn.AvgPool2d(k, 1, k // 2, count_include_pad=False) for k in config.pools)
        self.mix, self.gate = nn.Conv2d(d, d, 1), nn.Conv2d(2 * d, d, 1)
        self.join = ConvNormReLU(2 * d, d)

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """M maps [B, channels, H, W] to one [B, width, H, W]."""
        here = presence(feats, present)
        each = zip(self.each, feats, here.T, strict=True)
        maps = [on_present(f, x, w, self.mix.out_channels) for f, x, w in each]
        first, others = maps[0], maps[1:] or maps[:1]
        scored = [x * (1.0 + s(x).sigmoid()) for s, x in zip(self.score, others, strict=True)]
        hub = torch.stack(scored).amax(0)
        hub = self.local(hub) + hub
        pooled = hub
        for pool in self.pools:
            pooled = pooled + pool(hub)
        hub = hub * self.mix(pooled).sigmoid() + hub
        gate = self.gate(torch.cat([first, hub], dim=1)).sigmoid()
        return Fused(self.join(torch.cat([first * (1.0 + gate), hub * (2.0 - gate)], dim=1)))
