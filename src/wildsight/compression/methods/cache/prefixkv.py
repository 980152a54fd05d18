"""PrefixKV: give every layer the cache it needs to retain the same share of its attention.

Paper: "PrefixKV: Adaptive Prefix KV Cache is What Vision Instruction-Following Models Need for Efficient
Generation" (NeurIPS 2025, arXiv 2412.03409). A uniform cache wastes space in layers whose attention is
concentrated and starves layers whose attention is spread out. Implemented: importance (`attention_rows`,
`importance`), the cumulative priority (`prefix_mass`), the global search for layer sizes (`solve_sizes`,
and the published bisection, `bisect_sizes`), eviction at the end of the prompt (`kept_columns`) and while
decoding (`tail_rank`, `must_evict`).

Differences from the published code:
    1. Positions. The published scripts give a new token the length of layer 0's compressed cache as its
       position. Here a token keeps its logical position; nothing undoes this, because the other rule is a
       defect.
    2. Layer sizes come from an exact search whose total is exact, not from a bisection that stops within five
       tokens and then truncates. `bisect_sizes` is the published search.
    3. Rows of a batch have budgets of their own length, and padding is never kept.
    4. Importance is accumulated in float32 and in blocks of queries; no L x H x S x S tensor exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Attention weights computed at once while scoring, in elements."""


@dataclass(frozen=True)
class PrefixKVConfig:
    """Settings of the eviction rule; defaults are the paper's."""

    start: int = 1
    """First tokens that are never evicted."""
    protect: int = 1
    """Last prompt tokens that are never evicted."""
    tail: int = 25
    """While decoding, columns before the last ``tail`` of the compressed prompt are frozen."""
    samples: int = 10
    """N, prompts that an offline profile is averaged over."""


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


def prefix_mass(scores: Tensor) -> Tensor:
    """``P^l(o)``: share of a layer's importance that its ``o`` best tokens hold.

    Args:
        scores: ``[L, S]``, not negative.

    Returns:
        ``[L, S]`` float64, column ``o - 1`` for ``o`` tokens, ascending to 1.
    """
    ranked = scores.double().sort(dim=1, descending=True).values
    return (ranked / ranked.sum(dim=1, keepdim=True).clamp_min(1e-300)).cumsum(dim=1)


def solve_sizes(scores: Tensor, total: int, floor: int = 0) -> Tensor:
    """Layer sizes that retain an equal share everywhere and sum to ``total`` exactly.

    Token number k of layer l comes in as soon as the share exceeds what its k - 1 better ones hold; the
    ``total`` smallest of these thresholds are taken.

    Args:
        scores: ``[L, S]`` importance.
        total: tokens to keep over all layers, in [L * floor, L * S].
        floor: tokens that every layer keeps in any case.

    Returns:
        ``[L]`` int64.
    """
    mass = prefix_mass(scores)
    thresholds = torch.cat([mass.new_zeros(mass.shape[0], 1), mass[:, :-1]], dim=1)
    thresholds[:, :floor] = -1.0
    order = thresholds.flatten().sort(stable=True).indices[:total]
    return torch.bincount(order // scores.shape[1], minlength=scores.shape[0]).to(scores.device)


def bisect_sizes(scores: Tensor, forgotten: float, protected: int = 2, tolerance: float = 5.0) -> list[int]:
    """The published search: tokens that each layer forgets.

    Args:
        scores: ``[L, S]`` importance.
        forgotten: share to forget, in [0, 1].
        protected: tokens taken off every layer's forgotten count.
        tolerance: tokens within which the sum must come.
    """
    mass = prefix_mass(scores)
    layers, length = mass.shape
    low, high, target = 0.0, 1.0, forgotten * layers * length
    while True:
        share = (low + high) / 2
        kept = (mass < share).sum(dim=1) + 1
        forget = (length - kept - protected).clamp_min(0)
        if abs(int(forget.sum()) - target) < tolerance or share in (low, high):
            return [int(f) for f in forget]
        if int(forget.sum()) > target:
            low = share
        else:
            high = share


def kept_columns(
    scores: Tensor, valid: Tensor | None, counts: Sequence[int], start: int, protect: int
) -> Tensor:
    """Columns that a layer keeps at the end of the prompt.

    Args:
        scores: ``[B, G, n]`` for G groups of heads that choose alike; higher is kept, ties go to the earlier.
        valid: ``[B, n]`` bool, False for padding; the real columns of a row stand together at its end. None:
            no column is padding.
        counts: how many columns each row keeps, at most its number of valid ones.
        start: first valid columns that are kept in any case.
        protect: last valid columns that are kept in any case.

    Returns:
        ``[B, G, max(counts)]`` int64 ascending, -1 behind a row's own count.
    """
    length = scores.shape[2]
    value = scores.float().clone()
    value[..., max(0, length - protect) :] = math.inf
    if valid is None:
        value[..., :start] = math.inf
    else:
        rank = valid.long().cumsum(dim=1) - 1
        value.masked_fill_((rank < start)[:, None], math.inf).masked_fill_(~valid[:, None], -math.inf)
    order = value.sort(dim=2, descending=True, stable=True).indices[..., : max(counts)]
    if min(counts) == max(counts):
        return order.sort(dim=2).values
    wanted = torch.tensor(list(counts), device=scores.device)[:, None, None]
    beyond = torch.arange(order.shape[2], device=scores.device) >= wanted
    columns = order.masked_fill(beyond, length).sort(dim=2).values
    return columns.masked_fill(columns == length, -1)


def tail_rank(size: int, tail: int) -> int:
    """Rank of the first column that decoding may evict, in a prompt compressed to ``size`` columns."""
    return size - tail if size - tail >= 1 else size // 2


def must_evict(stored: int, allowed: float) -> bool:
    """Whether a layer that stores ``stored`` tokens holds at least one more than ``allowed = R_l * seen``."""
    return stored - allowed >= 1.0
