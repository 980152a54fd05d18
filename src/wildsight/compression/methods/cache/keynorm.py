"""Key norm: small keys are kept; no query is needed, so that any attention kernel will do.

Paper: "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression" (EMNLP 2024, arXiv
2406.11430). Implemented: ``-||k||`` of each head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Rope, Scorer, Stored


class SmallKeys(Scorer):
    """Small keys are kept."""

    def scores(self, stored: Stored, /) -> Tensor:
        """``-||k||`` of each head."""
        return -torch.linalg.vector_norm(stored.keys.float(), dim=-1)


@CACHE_METHODS.register("keynorm")
@dataclass(frozen=True)
class KeyNorm(CacheMethod):
    """The norm of the keys."""

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by the norm of their keys."""
        return SmallKeys(layer, seed, rope)
