"""Scores from the keys alone; they need no query, so any attention kernel will do.

Papers: "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression" (EMNLP 2024, arXiv
2406.11430), `KeyNorm`: ``-||k||``. "KeyDiff" (2025, arXiv 2504.15364), `KeyDiff`: ``-cos(k, mean k)``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wildsight.compression.methods.cache.scorer import Scorer, Stored


def key_novelty(keys: Tensor, valid: Tensor) -> Tensor:
    """``-cos(k, mean k)`` per head, the mean over valid columns; ``[B, H, n, d]`` to ``[B, H, n]``."""
    unit = normalize(keys.float(), dim=-1) * valid[:, None, :, None]
    anchor = normalize(unit.sum(dim=2, keepdim=True), dim=-1)
    return -(unit * anchor).sum(dim=-1)


class KeyNorm(Scorer):
    """Small keys are kept."""

    def scores(self, stored: Stored, /) -> Tensor:
        """``-||k||`` of each head."""
        return -torch.linalg.vector_norm(stored.keys.float(), dim=-1)


class KeyDiff(Scorer):
    """Keys unlike the mean key are kept."""

    def scores(self, stored: Stored, /) -> Tensor:
        """``-cos(k, mean k)`` of each head."""
        return key_novelty(stored.keys, stored.valid)
