"""Concatenation: the baseline every multi-modal network starts from.

Paper: none; two CBR on the concatenated maps, as in early RGB-D networks. A missing modality is all zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wildsight.fusion.fused import ConvNormReLU, Fused, presence
from wildsight.fusion.methods import METHODS, FusionMethod


@METHODS.register("concatenation")
@dataclass(frozen=True, kw_only=True)
class Concatenation(FusionMethod):
    """Concatenation, which has no hyper-parameters."""

    title = "concatenation"

    def module(self) -> ConcatenationFusion:
        """Two CBR."""
        return ConcatenationFusion(self)


class ConcatenationFusion(nn.Module):
    """``CBR(CBR(cat(x_1 .. x_M)))``."""

    def __init__(self, config: Concatenation) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            ConvNormReLU(config.channels * config.modalities, config.width),
            ConvNormReLU(config.width, config.width),
        )

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """M maps [B, channels, H, W] to one [B, width, H, W]."""
        here = presence(feats, present)
        shown = [x * w.view(-1, 1, 1, 1) for x, w in zip(feats, here.T, strict=True)]
        return Fused(self.mix(torch.cat(shown, dim=1)))
