"""Profiles from a few prompts: the shares of PrefixKV, averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.attention import ragged_attention
from wildsight.compression.cache import KVSettings, build_cache
from wildsight.compression.methods.cache.prefixkv import PrefixKV, solve_sizes
from wildsight.compression.methods.cache.sizes import check_share, half_up
from wildsight.compression.profile import Profile, fingerprint
from wildsight.errors import DataError

BUDGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@torch.no_grad()
def prompt_importance(model: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    """``[L, S]`` accumulated attention of each row of a batch, padding left out.

    Args:
        model: inside `ragged_attention`.
        inputs: keyword arguments of its ``forward``.
    """
    cache = build_cache(model, KVSettings(0.5, PrefixKV()))
    model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    valid = cache.ragged[0].valid
    table = torch.stack([layer.mass().to(valid.device) for layer in cache.ragged], dim=1)
    return [rows[:, real] for rows, real in zip(table, valid, strict=True)]


def average_shares(
    tables: Iterable[Tensor], budgets: Sequence[float], floor: int
) -> dict[float, list[float]]:
    """Layer shares of the exact search at each budget, averaged over prompts."""
    total: dict[float, Tensor] = {}
    count = 0
    for table in tables:
        count += 1
        layers, length = table.shape
        for budget in budgets:
            tokens = max(half_up(budget * layers * length), layers * min(floor, length))
            sizes = solve_sizes(table, tokens, min(floor, length)).double() / length
            total[budget] = total[budget] + sizes if budget in total else sizes
    return {budget: (sizes / count).tolist() for budget, sizes in total.items()}


def calibrate_prefix(
    model: Any,
    prompts: Sequence[Mapping[str, Any]],
    budgets: Sequence[float] = BUDGETS,
    *,
    name: str = "",
    source: str = "",
    start: int = 1,
    protect: int = 1,
    advance: Callable[[int], Any] | None = None,
) -> Profile:
    """PrefixKV's offline profile.

    Args:
        model: a decoder-only or LLaVA-class model with sdpa or eager attention.
        prompts: keyword arguments of its ``forward``, one mapping per prompt or batch; ten are enough.
        budgets: mean shares to solve for, in (0, 1).
        name: of the model, for messages.
        source: where the prompts come from.
        start, protect: tokens that are never evicted.
        advance: called with 1 after each prompt.

    Raises:
        BudgetError: a budget outside (0, 1].
        DataError: no prompts.
    """
    for budget in budgets:
        check_share(budget)
    if not prompts:
        raise DataError("no prompts to calibrate on", hint="give at least one")

    rows = 0

    def tables() -> Iterable[Tensor]:
        nonlocal rows
        for prompt in prompts:
            found = prompt_importance(model, prompt)
            rows += len(found)
            yield from found
            if advance is not None:
                advance(1)

    with ragged_attention(model):
        shares = average_shares(tables(), budgets, start + protect)
    return Profile(
        model=name or type(model).__name__,
        how="prefix",
        budgets={b: tuple(s) for b, s in shares.items()},
        samples=rows,
        source=source,
        text=fingerprint(model.config),
        about={"start": start, "protect": protect},
    )
