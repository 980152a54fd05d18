"""PrefixKV's rule of eviction, which every cache follows: at the end of the prompt, and while decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


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
