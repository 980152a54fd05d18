"""MixKV: mix what a key is worth with how unlike the others it is, by how alike the keys of a head are.

Paper: "Mixing Importance with Diversity: Joint Optimization for KV Cache Compression in Large Vision-Language
Models" (ICLR 2026, arXiv 2510.20707). Implemented: ``(1 - r) * importance + r * diversity`` per head with
``r = (T^2 ||mean k_hat||^2 - T) / (T (T - 1))``.

Differences from the published code (read in a digest of the paper alone):
    1. Importance (window attention plus value norm) and diversity are each scaled to [0, 1] per head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.keydiff import key_novelty
from wildsight.compression.methods.cache.scorer import Rope, Scorer, Stored
from wildsight.compression.methods.cache.snapkv import Window, keep_window
from wildsight.compression.methods.parameters import within


def likeness(keys: Tensor, valid: Tensor) -> Tensor:
    """Mean cosine between different keys of a head, ``[B, H, n, d]`` to ``[B, H, 1]``, clipped to [0, 1]."""
    unit = normalize(keys.float(), dim=-1) * valid[:, None, :, None]
    count = valid.sum(dim=1).float()[:, None, None]
    total = unit.sum(dim=2).square().sum(dim=-1, keepdim=True)
    return ((total - count) / (count * (count - 1)).clamp_min(1.0)).clamp(0.0, 1.0)


def to_unit(values: Tensor, valid: Tensor) -> Tensor:
    """Scale ``[B, H, n]`` to [0, 1] over the valid columns."""
    mask = valid[:, None, :]
    low = values.masked_fill(~mask, torch.inf).amin(dim=-1, keepdim=True)
    high = values.masked_fill(~mask, -torch.inf).amax(dim=-1, keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


class Mix(Window):
    """MixKV's score."""

    def scores(self, stored: Stored, /) -> Tensor:
        """The mixture, with the window on top."""
        keys, values, valid = stored.keys, stored.values, stored.valid
        votes = self.votes(stored)
        worth = torch.linalg.vector_norm(values.float(), dim=-1)
        importance = to_unit(to_unit(votes, valid) + to_unit(worth, valid), valid)
        share = likeness(keys, valid)
        mixed = (1 - share) * importance + share * to_unit(key_novelty(keys, valid), valid)
        return keep_window(mixed, self.window)


@CACHE_METHODS.register("mixkv")
@dataclass(frozen=True)
class MixKV(CacheMethod):
    """MixKV."""

    window: int = 16
    """Queries in the observation window."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, math.inf, "window")

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by importance mixed with diversity."""
        return Mix(layer, seed, rope, window=self.window)
