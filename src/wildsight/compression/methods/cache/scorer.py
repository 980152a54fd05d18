"""What every key scorer has in common: it watches the prompt being read, then gives each column a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Rope = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions ``[B, p]`` to cosines and sines ``[B, p, d]``."""


@dataclass(frozen=True)
class Chunk:
    """One piece of the prompt as a layer's attention sees it.

    Attributes:
        query: ``[B, H, q, d]``, rotated; the last ``q`` columns.
        key: ``[B, H_kv, n, d]``, all columns read so far.
        allowed: ``[B, 1, q, n]`` bool, or None for causal attention without padding.
        real: ``[B, q]`` bool, False for padding.
        positions: ``[B, q]``, or None where the model did not say.
        scaling: factor of the products.
    """

    query: Tensor
    key: Tensor
    allowed: Tensor | None
    real: Tensor
    positions: Tensor | None
    scaling: float


@dataclass(frozen=True)
class Stored:
    """The prompt of one layer, once it has been read.

    Attributes:
        keys: ``[B, H_kv, n, d]``.
        values: ``[B, H_kv, n, d]``.
        valid: ``[B, n]`` bool, False for padding.
    """

    keys: Tensor
    values: Tensor
    valid: Tensor


class Scorer(ABC):
    """Base: keeps nothing and looks at nothing; one object per layer.

    Args:
        layer: index of the layer.
        seed: for scorers that draw.
        rope: the model's rotary embedding, for scorers that undo it.
    """

    def __init__(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> None:
        self.layer, self.seed, self.rope = layer, seed, rope
        self.state: dict[str, Tensor] = {}
        self.scaling = 1.0

    def observe(self, _chunk: Chunk, /) -> None:  # noqa: B027 - scorers of keys alone watch nothing
        """Take in a piece of the prompt."""

    @abstractmethod
    def scores(self, stored: Stored, /) -> Tensor:
        """Score of every column, higher is kept.

        Returns:
            ``[B, 1, n]`` float32 where all heads choose alike, ``[B, H_kv, n]`` where each has its own.
        """

    def mass(self, stored: Stored, /) -> Tensor:
        """``[B, n]`` importance that layer sizes are found from: the scores' mean over heads, from 0."""
        scores = self.scores(stored).mean(dim=1)
        return (scores - scores.amin(dim=1, keepdim=True)) * stored.valid

    def rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply a change of the batch (selection, repetition) to what was kept."""
        self.state = {name: change(value) for name, value in self.state.items()}

    def reset(self) -> None:
        """Forget the prompt."""
        self.state = {}


def grow(old: Tensor | None, new: Tensor) -> Tensor:
    """``new [B, n]`` plus ``old [B, m]``, m <= n, column by column."""
    if old is None:
        return new
    return new + torch.nn.functional.pad(old, (0, new.shape[1] - old.shape[1]))
