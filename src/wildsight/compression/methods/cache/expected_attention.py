"""Expected attention: how much a key will get from queries that are drawn like those of the prompt.

Paper: "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution"
(2025, arXiv 2510.00636). Implemented: mean and covariance of the queries before rotation, both rotated by the
average of the next positions' rotations, ``softmax(k.mu * s + k' C k * s^2 / 2) * ||v||``.

The first four tokens take no part: their queries are left out of the moments, their keys out of the softmax,
and they are kept ahead of all others.

Difference from the published code: rotation is undone on the queries that attention sees, so that no layer is
read twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Chunk, Rope, Scorer, Stored
from wildsight.compression.methods.parameters import within
from wildsight.errors import UnsupportedModelError

SINKS = 4
"""First tokens of a prompt that draw attention whatever they say."""
AHEAD = 512
"""Positions to come that the rotation is averaged over."""


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in halves: ``x cos + (-x_2, x_1) sin``; a negative sine undoes it."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def mean_rotation(cos: Tensor, sin: Tensor) -> Tensor:
    """Matrix ``R`` with ``R x`` the mean of the rotations of ``x``.

    Args:
        cos: ``[p, d]``.
        sin: ``[p, d]``.

    Returns:
        ``[d, d]``.
    """
    identity = torch.eye(cos.shape[-1], device=cos.device, dtype=cos.dtype)
    return rotate(identity, cos.mean(dim=0), sin.mean(dim=0)).T


def expected_scores(
    mean: Tensor, cov: Tensor, keys: Tensor, values: Tensor, scaling: float, open_: Tensor | None = None
) -> Tensor:
    """``softmax_n(k.mu s + k' C k s^2 / 2) ||v||`` per query head.

    Args:
        mean: ``[B, H, d]`` rotated mean of the queries.
        cov: ``[B, H, d, d]`` rotated covariance.
        keys: ``[B, H, n, d]``.
        values: ``[B, H, n, d]``.
        scaling: s.
        open_: ``[B, n]`` bool, the columns that share the softmax; the others get 0. None means all.

    Returns:
        ``[B, H, n]``.
    """
    logits = (keys @ mean[..., None])[..., 0] * scaling
    logits = logits + ((keys @ cov) * keys).sum(dim=-1) * (scaling**2 / 2)
    if open_ is not None:
        logits = logits.masked_fill(~open_[:, None], -math.inf)
    return torch.softmax(logits, dim=-1).nan_to_num(0.0) * torch.linalg.vector_norm(values, dim=-1)


class Expected(Scorer):
    """Accumulates the queries' first and second moments.

    Args:
        layer, seed, rope: as every scorer.
        sinks: first tokens that take no part.
        ahead: positions to come that the rotation is averaged over.
    """

    def __init__(
        self,
        layer: int = 0,
        seed: int = 0,
        rope: Rope | None = None,
        *,
        sinks: int = SINKS,
        ahead: int = AHEAD,
    ) -> None:
        super().__init__(layer, seed, rope)
        self.sinks, self.ahead = sinks, ahead

    def observe(self, chunk: Chunk) -> None:
        """Add the chunk's queries, padding and the sinks left out."""
        if self.rope is None or chunk.positions is None:
            raise UnsupportedModelError(
                "the model has no one-dimensional rotary embedding", hint="use another key scorer"
            )
        cos, sin = (part.float()[:, None] for part in self.rope(chunk.positions))
        query = rotate(chunk.query.float(), cos, -sin)
        before = self.state.get("seen", chunk.real.new_zeros(chunk.real.shape[0], dtype=torch.long))
        rank = before[:, None] + chunk.real.long().cumsum(dim=1) - 1
        used = (chunk.real & (rank >= self.sinks)).float()[:, None, :, None]
        self._add("count", used.sum(dim=2))
        self._add("sum", (query * used).sum(dim=2))
        self._add("outer", (query * used).transpose(-1, -2) @ query)
        self.state["seen"] = before + chunk.real.sum(dim=1)
        self.state["last"] = chunk.positions.amax(dim=1)
        self.scaling = chunk.scaling

    def _add(self, name: str, value: Tensor) -> None:
        self.state[name] = self.state[name] + value if name in self.state else value

    def mass(self, stored: Stored, /) -> Tensor:
        """Expected attention times value norm, the mean over heads; 0 for the sinks."""
        return self._expected(stored, self._open(stored)).mean(dim=1)

    def scores(self, stored: Stored, /) -> Tensor:
        """Expected attention times value norm, the mean over each group of query heads; sinks on top."""
        open_ = self._open(stored)
        own = self._expected(stored, open_)
        sinks = (stored.valid & ~open_)[:, None]
        return torch.where(sinks, own.amax(dim=2, keepdim=True) + 1.0, own)

    def _open(self, stored: Stored) -> Tensor:
        """``[B, n]`` real columns behind the sinks."""
        return stored.valid & (stored.valid.long().cumsum(dim=1) > self.sinks)

    def _expected(self, stored: Stored, open_: Tensor) -> Tensor:
        count = self.state["count"].clamp_min(1.0)
        mean = self.state["sum"] / count
        cov = self.state["outer"] / count[..., None] - mean[..., :, None] * mean[..., None, :]
        rotation = self._rotation()
        groups = mean.shape[1] // stored.keys.shape[1]
        keys, values = (t.float().repeat_interleave(groups, dim=1) for t in (stored.keys, stored.values))
        mean, cov = (rotation @ mean[..., None])[..., 0], rotation @ cov @ rotation.transpose(-1, -2)
        own = expected_scores(mean, cov, keys, values, self.scaling, open_)
        return own.unflatten(1, (-1, groups)).mean(dim=2)

    def _rotation(self) -> Tensor:
        """``[B, 1, d, d]`` mean rotation of the positions to come."""
        if self.rope is None:
            raise UnsupportedModelError("the model has no rotary embedding", hint="use another key scorer")
        last = self.state["last"]
        ahead = last[:, None] + 1 + torch.arange(self.ahead, device=last.device)
        cos, sin = (part.float() for part in self.rope(ahead))
        cos, sin = (part.expand(last.shape[0], -1, -1) for part in (cos, sin))
        return torch.stack([mean_rotation(c, s) for c, s in zip(cos, sin, strict=True)])[:, None]


@CACHE_METHODS.register("expected")
@dataclass(frozen=True)
class ExpectedAttention(CacheMethod):
    """Expected attention; the defaults are the paper's."""

    sinks: int = SINKS
    """First tokens of a prompt that take no part, and are kept ahead of all others."""
    ahead: int = AHEAD
    """Positions to come that the rotation is averaged over."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, math.inf, "sinks")
        within(self, 1, math.inf, "ahead")

    @property
    def needs_rope(self) -> bool:
        """Queries are looked at before rotation."""
        return True

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by the attention that queries to come will pay."""
        return Expected(layer, seed, rope, sinks=self.sinks, ahead=self.ahead)
