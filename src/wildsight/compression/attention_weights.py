"""Attention weights outside the model: in float32, in blocks of queries, no L x H x S x S tensor anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Attention weights computed at once while scoring, in elements."""


def query_blocks(heads: int, queries: int, keys: int) -> Iterator[slice]:
    """Slices of the query axis, each small enough that its weights stay within `BLOCK` elements."""
    step = max(1, min(queries, BLOCK // max(1, heads * keys)))
    for first in range(0, queries, step):
        yield slice(first, min(first + step, queries))


def attention_rows(query: Tensor, key: Tensor, allowed: Tensor | None, scaling: float) -> Tensor:
    """Head-mean softmax attention; a query that may look at nothing gets zeros.

    Args:
        query: ``[B, H, q, d]``.
        key: ``[B, H_kv, n, d]``, H a multiple of H_kv.
        allowed: ``[B, 1, q, n]`` bool, or None where everything is allowed.
        scaling: factor of the products.

    Returns:
        ``[B, q, n]`` float32.
    """
    return head_attention(query, key, allowed, scaling).mean(dim=1)


def head_attention(query: Tensor, key: Tensor, allowed: Tensor | None, scaling: float) -> Tensor:
    """As `attention_rows`, before the mean: ``[B, H, q, n]`` float32."""
    batch, heads, queries, width = query.shape
    groups = heads // key.shape[1]
    stacked = query.reshape(batch, key.shape[1], groups * queries, width)
    logits = (stacked @ key.transpose(-1, -2)).float().mul_(scaling)
    logits = logits.view(batch, heads, queries, key.shape[2])
    if allowed is not None:
        logits.masked_fill_(~allowed, -math.inf)
    return torch.softmax(logits, dim=-1).nan_to_num_(0.0)


def causal(first: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """``[1, 1, queries, keys]`` bool: query i stands at column ``first + i`` and sees no later column."""
    columns = torch.arange(keys, device=device)
    rows = torch.arange(first, first + queries, device=device)
    return (columns[None, :] <= rows[:, None])[None, None]


def importance(query: Tensor, key: Tensor, allowed: Tensor | None, scaling: float) -> Tensor:
    """``I_n = sum_q mean_h A_{h,q,n}``, in blocks of queries.

    Args:
        query: ``[B, H, q, d]``, the last ``q`` columns of the keys.
        key: ``[B, H_kv, n, d]``.
        allowed: ``[B, 1, q, n]`` bool; None means causal.
        scaling: factor of the products.

    Returns:
        ``[B, n]`` float32.
    """
    total = key.new_zeros(key.shape[0], key.shape[2], dtype=torch.float32)
    behind = key.shape[2] - query.shape[2]
    for block in query_blocks(query.shape[0] * query.shape[1], query.shape[2], key.shape[2]):
        seen = behind + block.stop
        if allowed is None:
            part = causal(behind + block.start, block.stop - block.start, seen, key.device)
        else:
            part = allowed[:, :, block, :seen]
        total[:, :seen] += attention_rows(query[:, :, block], key[:, :, :seen], part, scaling).sum(dim=1)
    return total
