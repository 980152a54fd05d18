"""H2O: keep the heavy hitters, the keys that gathered the most attention.

Paper: "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of LLMs" (NeurIPS 2023, arXiv 2306.14048).
Implemented: accumulated attention over the prompt; sizes are uniform.

Differences from the published code:
    1. While decoding, evictions follow PrefixKV's rule, as for every scorer of this task.
    2. ``mean`` divides a column's sum by the number of queries that could see it, which undoes the advantage
       of early columns; off by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wildsight.compression.attention_weights import importance
from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Chunk, Rope, Scorer, Stored, grow


class AttentionSum(Scorer):
    """``I_n = sum_q mean_h A_{h,q,n}``; PrefixKV ranks by it too."""

    def observe(self, chunk: Chunk) -> None:
        """Add the chunk's attention."""
        new = importance(chunk.query, chunk.key, chunk.allowed, chunk.scaling)
        self.state["sum"] = grow(self.state.get("sum"), new)

    def scores(self, _stored: Stored, /) -> Tensor:
        """The sums, one for all heads."""
        return self.state["sum"][:, None]

    def mass(self, _stored: Stored, /) -> Tensor:
        """The sums."""
        return self.state["sum"]


class AttentionMean(AttentionSum):
    """The sum over the number of queries at or behind the column."""

    def scores(self, stored: Stored, /) -> Tensor:
        """The means, one for all heads."""
        behind = stored.valid.flip(1).long().cumsum(dim=1).flip(1).clamp_min(1)
        return (self.state["sum"] / behind)[:, None]


@CACHE_METHODS.register("h2o")
@dataclass(frozen=True)
class H2O(CacheMethod):
    """H2O."""

    mean: bool = False
    """Rank by the mean over the queries that could see a column, in place of the sum."""

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by the attention that they gathered."""
        return (AttentionMean if self.mean else AttentionSum)(layer, seed, rope)
