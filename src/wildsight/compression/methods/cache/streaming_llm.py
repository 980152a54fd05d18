"""StreamingLLM: the first tokens and the most recent ones.

Paper: "Efficient Streaming Language Models with Attention Sinks" (ICLR 2024, arXiv 2309.17453).
Difference: the first ``start`` tokens are one by default here, four there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Rope, Scorer, Stored


class Recent(Scorer):
    """Later is better."""

    def scores(self, stored: Stored, /) -> Tensor:
        """The column's index."""
        return (
            torch.arange(stored.valid.shape[1], device=stored.valid.device)
            .float()
            .expand_as(stored.valid)[:, None]
        )


@CACHE_METHODS.register("local")
@dataclass(frozen=True)
class StreamingLLM(CacheMethod):
    """The most recent tokens, behind the first ones."""

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Later columns are kept."""
        return Recent(layer, seed, rope)
