"""KeyDiff: keys unlike the mean key are kept; no query is needed, so that any attention kernel will do.

Paper: "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-Constrained
Environments" (2025, arXiv 2504.15364). Implemented: ``-cos(k, mean k)`` of each head.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Rope, Scorer, Stored


def key_novelty(keys: Tensor, valid: Tensor) -> Tensor:
    """``-cos(k, mean k)`` per head, the mean over valid columns; ``[B, H, n, d]`` to ``[B, H, n]``."""
    unit = normalize(keys.float(), dim=-1) * valid[:, None, :, None]
    anchor = normalize(unit.sum(dim=2, keepdim=True), dim=-1)
    return -(unit * anchor).sum(dim=-1)


class NovelKeys(Scorer):
    """Keys unlike the mean key are kept."""

    def scores(self, stored: Stored, /) -> Tensor:
        """``-cos(k, mean k)`` of each head."""
        return key_novelty(stored.keys, stored.valid)


@CACHE_METHODS.register("keydiff")
@dataclass(frozen=True)
class KeyDiff(CacheMethod):
    """The difference of the keys from their mean."""

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by how unlike the mean their keys are."""
        return NovelKeys(layer, seed, rope)
