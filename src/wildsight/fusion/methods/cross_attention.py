"""Cross-attention fusion: every modality's tokens ask the tokens of all modalities.

Paper: the softmax cross-attention of multi-modal transformers (CMX, arXiv 2203.04838, has a linear form).
Implemented: queries from one modality, keys and values from all positions of all modalities that are there,
residual, then a join of the modalities by CBR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildsight.errors import ConfigError
from wildsight.estimators.registry import at_least, check_ranges
from wildsight.fusion.fused import ConvNormReLU, Fused, JoinedNormReLU, on_present, presence
from wildsight.fusion.methods import CONCATENATED, METHODS, FusionMethod


@METHODS.register("cross-attention")
@dataclass(frozen=True, kw_only=True)
class CrossAttention(FusionMethod):
    """Cross-attention with its hyper-parameters."""

    title = "cross-attention"
    fine = CONCATENATED

    heads: int = 4
    """Attention heads; divides ``width``."""

    def __post_init__(self) -> None:
        check_ranges(self, heads=at_least(1))
        if self.width % self.heads:
            hint = "give a number of heads that divides the width"
            raise ConfigError(
                f"width={self.width} does not split over {self.heads} heads", where="heads", hint=hint
            )

    def module(self) -> CrossAttentionFusion:
        """Tokens of all modalities to one map."""
        return CrossAttentionFusion(self)


class CrossAttentionFusion(nn.Module):
    """Tokens of M modalities to one map."""

    def __init__(self, config: CrossAttention) -> None:
        super().__init__()
        d, m = config.width, config.modalities
        self.heads = config.heads
        self.each = nn.ModuleList(ConvNormReLU(config.channels, d) for _ in range(m))
        self.norm = nn.LayerNorm(d)
        self.mark = nn.Parameter(torch.randn(m, d) * 0.02)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.join = JoinedNormReLU([d] * m, d)

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """M maps [B, channels, H, W] to one [B, width, H, W]."""
        here = presence(feats, present)
        each = zip(self.each, feats, here.T, strict=True)
        maps = [on_present(f, x, w, self.norm.normalized_shape[0]) for f, x, w in each]
        size = maps[0].shape[-2:]
        tokens = torch.stack([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        asked = self.norm(tokens) + self.mark[:, None]
        q, k, v = self.qkv(asked.flatten(1, 2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        hidden = None
        if present is not None:
            hidden = here.repeat_interleave(tokens.shape[2], dim=1).bool()[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=hidden)
        added = tokens + self.out(mixed.transpose(1, 2).flatten(2)).view_as(tokens)
        shown = added * here[:, :, None, None]
        back = shown.transpose(2, 3).unflatten(-1, size)
        return Fused(self.join(list(back.unbind(1))))
