"""SnapKV: the last queries of the prompt vote for the keys that the answer will need.

Paper: "SnapKV: LLM Knows What You are Looking for Before Generation" (NeurIPS 2024, arXiv 2404.14469).
Implemented: attention of the last ``window`` queries, mean over them, average-pooled along the keys; the
window itself is kept.

Differences from the published code:
    1. The window is 16 queries, not 32 or 64, because the text of a picture question is short; ``window``
       sets it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from wildsight.compression.attention_weights import causal, head_attention
from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Chunk, Rope, Scorer, Stored
from wildsight.compression.methods.parameters import within
from wildsight.errors import ConfigError


def window_attention(query: Tensor, keys: Tensor, valid: Tensor, scaling: float) -> Tensor:
    """Mean attention of the last queries per head.

    Args:
        query: ``[B, H, w, d]``, the last ``w`` columns.
        keys: ``[B, H_kv, n, d]``.
        valid: ``[B, n]`` bool.
        scaling: factor of the products.

    Returns:
        ``[B, H, n]`` float32.
    """
    width, length = query.shape[2], keys.shape[2]
    allowed = causal(length - width, width, length, keys.device) & valid[:, None, None, :]
    weights = head_attention(query, keys, allowed, scaling)
    return weights.sum(dim=2) / valid[:, None, length - width :].sum(dim=-1, keepdim=True).clamp_min(1)


def smooth(scores: Tensor, kernel: int = 5) -> Tensor:
    """Average over each column's neighbourhood, ``[B, H, n]``."""
    return avg_pool1d(scores, kernel, stride=1, padding=kernel // 2)


def keep_window(scores: Tensor, window: int) -> Tensor:
    """Lift the last ``window`` columns of ``[B, H, n]`` above all others, the latest highest."""
    width = min(window, scores.shape[2])
    lifted = scores.clone()
    ladder = torch.arange(1, width + 1, device=scores.device, dtype=scores.dtype)
    lifted[..., scores.shape[2] - width :] = scores.abs().amax(dim=2, keepdim=True) + ladder
    return lifted


class Window(Scorer):
    """SnapKV's score.

    Args:
        layer, seed, rope: as every scorer.
        window: queries in the observation window.
        kernel: width of the pooling along the keys.
    """

    def __init__(
        self, layer: int = 0, seed: int = 0, rope: Rope | None = None, *, window: int = 16, kernel: int = 5
    ) -> None:
        super().__init__(layer, seed, rope)
        self.window, self.kernel = window, kernel

    def observe(self, chunk: Chunk) -> None:
        """Keep the last queries."""
        kept = self.state.get("query")
        joined = chunk.query if kept is None else torch.cat([kept, chunk.query], dim=2)
        self.state["query"] = joined[:, :, -self.window :].clone()
        self.scaling = chunk.scaling

    def votes(self, stored: Stored) -> Tensor:
        """``[B, H_kv, n]`` mean attention of the window, the mean over each group of query heads."""
        votes = window_attention(self.state["query"], stored.keys, stored.valid, self.scaling)
        return votes.unflatten(1, (stored.keys.shape[1], -1)).mean(dim=2)

    def mass(self, stored: Stored, /) -> Tensor:
        """Pooled votes, the mean over heads."""
        return smooth(self.votes(stored), self.kernel).mean(dim=1)

    def scores(self, stored: Stored, /) -> Tensor:
        """Pooled votes, with the window on top."""
        return keep_window(smooth(self.votes(stored), self.kernel), self.window)


@CACHE_METHODS.register("snapkv")
@dataclass(frozen=True)
class SnapKV(CacheMethod):
    """SnapKV."""

    window: int = 16
    """Queries in the observation window."""
    kernel: int = 5
    """Columns that a vote is averaged over, an odd number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, math.inf, "window", "kernel")
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel} has no middle", hint="give an odd number")

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by the votes of the last queries."""
        return Window(layer, seed, rope, window=self.window, kernel=self.kernel)
