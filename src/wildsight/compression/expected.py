"""Expected attention: how much a key will get from queries that are drawn like those of the prompt.

Paper: "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution"
(2025, arXiv 2510.00636). Implemented: mean and covariance of the queries before rotation, both rotated by the
average of the next positions' rotations, ``softmax(k.mu * s + k' C k * s^2 / 2) * ||v||``.

Difference from the published code: rotation is undone on the queries that attention sees, so that no layer is
read twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wildsight.compression.scorer import Chunk, Scorer, Stored
from wildsight.errors import UnsupportedModelError

SINKS = 4
AHEAD = 512


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


def expected_scores(mean: Tensor, cov: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """``softmax_n(k.mu s + k' C k s^2 / 2) ||v||`` per query head.

    Args:
        mean: ``[B, H, d]`` rotated mean of the queries.
        cov: ``[B, H, d, d]`` rotated covariance.
        keys: ``[B, H, n, d]``.
        values: ``[B, H, n, d]``.
        scaling: s.

    Returns:
        ``[B, H, n]``.
    """
    logits = (keys @ mean[..., None])[..., 0] * scaling
    logits = logits + ((keys @ cov) * keys).sum(dim=-1) * (scaling**2 / 2)
    return torch.softmax(logits, dim=-1) * torch.linalg.vector_norm(values, dim=-1)


class Expected(Scorer):
    """Accumulates the queries' first and second moments."""

    needs_rope = True

    def observe(self, chunk: Chunk) -> None:
        """Add the chunk's queries, padding and the first four tokens left out."""
        if self.rope is None or chunk.positions is None:
            raise UnsupportedModelError(
                "the model has no one-dimensional rotary embedding", mend="use another key scorer"
            )
        cos, sin = (part.float()[:, None] for part in self.rope(chunk.positions))
        query = rotate(chunk.query.float(), cos, -sin)
        before = self.state.get("seen", chunk.real.new_zeros(chunk.real.shape[0], dtype=torch.long))
        rank = before[:, None] + chunk.real.long().cumsum(dim=1) - 1
        used = (chunk.real & (rank >= SINKS)).float()[:, None, :, None]
        self._add("count", used.sum(dim=2))
        self._add("sum", (query * used).sum(dim=2))
        self._add("outer", (query * used).transpose(-1, -2) @ query)
        self.state["seen"] = before + chunk.real.sum(dim=1)
        self.state["last"] = chunk.positions.amax(dim=1)
        self.scaling = chunk.scaling

    def _add(self, name: str, value: Tensor) -> None:
        self.state[name] = self.state[name] + value if name in self.state else value

    def scores(self, stored: Stored, /) -> Tensor:
        """Expected attention times value norm, the mean over each group of query heads."""
        count = self.state["count"].clamp_min(1.0)
        mean = self.state["sum"] / count
        cov = self.state["outer"] / count[..., None] - mean[..., :, None] * mean[..., None, :]
        turn = self._turn()
        groups = mean.shape[1] // stored.keys.shape[1]
        keys, values = (t.float().repeat_interleave(groups, dim=1) for t in (stored.keys, stored.values))
        keys = keys.masked_fill(~stored.valid[:, None, :, None], 0.0)
        mean, cov = (turn @ mean[..., None])[..., 0], turn @ cov @ turn.transpose(-1, -2)
        return expected_scores(mean, cov, keys, values, self.scaling).unflatten(1, (-1, groups)).mean(dim=2)

    def _turn(self) -> Tensor:
        """``[B, 1, d, d]`` mean rotation of the positions to come."""
        if self.rope is None:
            raise UnsupportedModelError("the model has no rotary embedding", mend="use another key scorer")
        last = self.state["last"]
        ahead = last[:, None] + 1 + torch.arange(AHEAD, device=last.device)
        cos, sin = (part.float() for part in self.rope(ahead))
        cos, sin = (part.expand(last.shape[0], -1, -1) for part in (cos, sin))
        return torch.stack([mean_rotation(c, s) for c, s in zip(cos, sin, strict=True)])[:, None]
