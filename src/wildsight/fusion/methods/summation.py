"""Summation: one CBR per modality, then the mean over the modalities that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wildsight.fusion.fused import ConvNormReLU, Fused, on_present, presence
from wildsight.fusion.methods import METHODS, FusionMethod


@METHODS.register("summation")
@dataclass(frozen=True, kw_only=True)
class Summation(FusionMethod):
    """Summation, which has no hyper-parameters."""

    title = "summation"

    def module(self) -> SummationFusion:
        """A CBR per modality, and one after the mean."""
        return SummationFusion(self)


class SummationFusion(nn.Module):
    """``CBR(mean_m CBR_m(x_m))``."""

    def __init__(self, config: Summation) -> None:
        super().__init__()
        self.width = config.width
        self.each = nn.ModuleList(
            ConvNormReLU(config.channels, config.width) for _ in range(config.modalities)
        )
        self.after = ConvNormReLU(config.width, config.width)

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """M maps [B, channels, H, W] to one [B, width, H, W]."""
        here = presence(feats, present)
        weight = (here / here.sum(1, keepdim=True)).T
        each = zip(self.each, feats, here.T, weight, strict=True)
        maps = [on_present(f, x, h, self.width) * w.view(-1, 1, 1, 1) for f, x, h, w in each]
        return Fused(self.after(torch.stack(maps).sum(0)))
