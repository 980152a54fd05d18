"""Concatenation: the baseline every multi-modal network starts from.

Paper: none; two CBR on the concatenated maps, as in early RGB-D networks. A missing modality is all zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wildsight.fusion.fused import ConvNormReLU, Fused, presence


@dataclass(frozen=True)
class ConcatenationConfig:
    """Sizes of one concatenation."""

    channels: int
    """Channels of every modality's map."""
    modalities: int
    """M."""
    width: int = 128
    """Channels of the fused map."""


class Concatenation(nn.Module):
    """``CBR(CBR(cat(x_1 .. x_M)))``."""

    def __init__(self, config: ConcatenationConfig) -> None:
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
