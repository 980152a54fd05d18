"""The control: columns drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Rope, Scorer, Stored


class Random(Scorer):
    """Uniform draws from (seed, layer)."""

    def scores(self, stored: Stored, /) -> Tensor:
        """Uniform in [0, 1)."""
        draw = torch.Generator().manual_seed(self.seed * 1009 + self.layer)
        return torch.rand(stored.valid.shape, generator=draw).to(stored.valid.device)[:, None]


@CACHE_METHODS.register("random")
@dataclass(frozen=True)
class RandomColumns(CacheMethod):
    """Columns at random."""

    @property
    def draws(self) -> bool:
        """The seed decides."""
        return True

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked at random."""
        return Random(layer, seed, rope)
