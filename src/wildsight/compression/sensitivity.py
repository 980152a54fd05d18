"""Layer sizes from sensitivity: how much the output changes when one layer's cache shrinks.

An equal share of attention mass in every layer says nothing about how much a layer matters. Here each layer
alone is cut to a few shares on calibration prompts, the change of the output distribution is measured
(Kullback-Leibler divergence on the text that follows), and the budget goes where the next token of cache
lowers it most.

Losses of single layers do not add up: a layer that seems idle while all others are whole is missed once
several are cut. So no layer gets less than ``floor`` times the mean; 0 turns the floor off, 1 is uniform. The
lower the floor, the worse on nano-llava: what is left is a tilt of uniform sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.attention import ragged_attention
from wildsight.compression.cache import KVSettings, build_cache
from wildsight.compression.calibrate import BUDGETS
from wildsight.compression.decoding import Decoder
from wildsight.compression.methods.cache.base import scorer_word
from wildsight.compression.methods.cache.prefixkv import with_profile
from wildsight.compression.profile import Profile, fingerprint
from wildsight.compression.prune import encoded
from wildsight.errors import DataError

GRID = (0.05, 0.2, 0.5)
"""Shares that one layer is cut to while the others keep all."""
FLOOR = 0.9
"""Least share of a layer, relative to the mean; the best of 0, .5, .75 and .9 on development questions."""
STEPS = 200
"""Steps of a share in the greedy allocation."""


@torch.no_grad()
def followed(model: Any, prompt: Mapping[str, Any], text: Tensor, settings: KVSettings) -> Tensor:
    """Log probabilities ``[B, t, V]`` behind each token of ``text [B, t]``, behind a compressed prompt.

    Args:
        model: inside `ragged_attention`.
        prompt: keyword arguments of ``forward``, without padding.
        text: the tokens that follow, one at a time.
        settings: what the cache keeps.
    """
    call = dict(prompt)
    pictures = call.pop("features", None)
    if pictures is not None:
        call["mm_encoder_outputs"] = {"image": encoded(pictures)}
    length = call["input_ids"].shape[1]
    cache = build_cache(model, settings, length)
    model(**call, past_key_values=cache, use_cache=True, logits_to_keep=1)
    decoder = Decoder(cache, torch.full((text.shape[0], 1), length - 1, device=text.device))
    logits = [decoder.step(model, token) for token in text.unbind(dim=1)]
    return torch.log_softmax(torch.stack(logits, dim=1), dim=-1)


def divergence(full: Tensor, cut: Tensor) -> float:
    """Mean Kullback-Leibler divergence ``KL(full || cut)`` of log probabilities ``[..., V]``."""
    return float((full.exp() * (full - cut)).sum(dim=-1).mean())


def layer_settings(base: KVSettings, layer: int, layers: int, share: float) -> KVSettings:
    """One layer cut to ``share``, all others whole."""
    shares = [1.0] * layers
    shares[layer] = share
    mean = sum(shares) / layers
    profile = Profile("one layer", "sensitivity", {mean: tuple(shares)})
    return replace(base, keep=mean, method=with_profile(base.method, profile))


def loss_curve(shares: Sequence[float], losses: Sequence[float]) -> Callable[[float], float]:
    """Loss of a layer by its share: piecewise linear through the measured points, 0 at 1, never rising.

    Below the lowest share the slope of the first piece goes on.
    """
    points = [*zip(shares, losses, strict=True), (1.0, 0.0)]
    for i in range(len(points) - 2, -1, -1):
        points[i] = (points[i][0], max(points[i][1], points[i + 1][1]))

    def at(share: float) -> float:
        for (a, x), (b, y) in pairwise(points):
            if share <= b:
                return x + (share - a) * (y - x) / (b - a)
        return 0.0

    return at


def allocate(curves: Sequence[Callable[[float], float]], mean: float, floor: float = FLOOR) -> list[float]:
    """Shares with the given mean: each step goes to the layer whose loss it lowers most per unit of cache.

    A layer may look further ahead than one step, so that a flat beginning does not hide a steep end.

    Args:
        curves: loss of each layer by its share.
        mean: of the shares.
        floor: least share of a layer, relative to the mean, in [0, 1]: losses are measured one layer at a
            time, and say nothing of several starved ones.
    """
    steps = [int(floor * mean * STEPS)] * len(curves)
    budget = round(mean * len(curves) * STEPS) - sum(steps)
    tables = [[curve(k / STEPS) for k in range(STEPS + 1)] for curve in curves]
    while budget > 0:
        best, gain, width = -1, -1.0, 1
        for layer, table in enumerate(tables):
            for ahead in (1, STEPS // 20, STEPS // 4):
                to = steps[layer] + min(ahead, budget, STEPS - steps[layer])
                if to > steps[layer]:
                    own = (table[steps[layer]] - table[to]) / (to - steps[layer])
                    if own > gain:
                        best, gain, width = layer, own, to - steps[layer]
        steps[best] += width
        budget -= width
    return [s / STEPS for s in steps]


def calibrate_sensitivity(
    model: Any,
    prompts: Sequence[tuple[Mapping[str, Any], Tensor]],
    base: KVSettings,
    budgets: Sequence[float] = BUDGETS,
    *,
    grid: Sequence[float] = GRID,
    floor: float = FLOOR,
    name: str = "",
    source: str = "",
    advance: Callable[[int], Any] | None = None,
) -> Profile:
    """A profile from the measured sensitivity of each layer.

    Args:
        model: a decoder-only or LLaVA-class model with sdpa or eager attention.
        prompts: (prompt, tokens that follow); a prompt is keyword arguments of ``forward`` without padding,
            with encoded pictures under ``features``.
        base: scorer and eviction rule; its sizes and budget are not used.
        budgets: mean shares to solve for.
        grid: shares that a layer is cut to.
        floor: least share of a layer, relative to the mean.
        name: of the model.
        source: where the prompts come from.
        advance: called with 1 after each prompt.

    Raises:
        DataError: no prompts.
    """
    if not prompts:
        raise DataError("no prompts to calibrate on", hint="give at least one")
    layers = fingerprint(model.config)["num_hidden_layers"]
    total = [[0.0] * len(grid) for _ in range(layers)]
    with ragged_attention(model):
        for prompt, text in prompts:
            full = followed(model, prompt, text, replace(base, keep=1.0))
            for layer in range(layers):
                for place, share in enumerate(grid):
                    own = layer_settings(base, layer, layers, share)
                    total[layer][place] += divergence(full, followed(model, prompt, text, own))
            if advance is not None:
                advance(1)
    losses = [[x / len(prompts) for x in row] for row in total]
    curves = [loss_curve(grid, row) for row in losses]
    return Profile(
        model=name or type(model).__name__,
        how="sensitivity",
        budgets={b: tuple(allocate(curves, b, floor)) for b in budgets},
        samples=len(prompts),
        source=source,
        text=fingerprint(model.config),
        about={"scorer": scorer_word(base.method), "grid": list(grid), "floor": floor, "divergence": losses},
    )
