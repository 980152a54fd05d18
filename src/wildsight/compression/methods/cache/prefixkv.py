"""PrefixKV: give every layer the cache it needs to retain the same share of its attention.

Paper: "PrefixKV: Adaptive Prefix KV Cache is What Vision Instruction-Following Models Need for Efficient
Generation" (NeurIPS 2025, arXiv 2412.03409). A uniform cache wastes space in layers whose attention is
concentrated and starves layers whose attention is spread out. Implemented: importance
(`wildsight.compression.attention_weights.importance`), the cumulative priority (`prefix_mass`), the
global search for layer sizes (`solve_sizes`, and the published bisection, `bisect_sizes`), eviction at the
end of the prompt (`wildsight.compression.eviction.kept_columns`) and while decoding (`tail_rank`,
`must_evict`).

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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod, Crossed, common
from wildsight.compression.methods.cache.h2o import AttentionSum
from wildsight.compression.methods.cache.scorer import Rope, Scorer
from wildsight.compression.methods.cache.sizes import published_counts, token_counts
from wildsight.compression.profile import Profile
from wildsight.errors import ConfigError


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


@CACHE_METHODS.register("prefixkv")
@dataclass(frozen=True)
class PrefixKV(CacheMethod):
    """PrefixKV; the defaults are the paper's."""

    profile: Profile | str | None = None
    """Layer sizes found beforehand, or their file; without them each prompt gives its own."""
    rounding: Literal["exact", "published"] = "exact"
    """``exact`` meets the total; ``published`` rounds every layer on its own, as the PrefixKV code does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.profile, str | Path):
            object.__setattr__(self, "profile", Profile.load(self.profile))

    @property
    def online(self) -> bool:
        """Whether the sizes come from the prompt itself."""
        return self.profile is None

    def check(self, config: Any) -> None:
        """Refuse a profile of another model."""
        if isinstance(self.profile, Profile):
            self.profile.check(config)

    def shares(self, share: float, layers: int) -> list[float]:
        """The profile's shares."""
        if not isinstance(self.profile, Profile):
            raise ConfigError("sizes from the prompt have no shares beforehand", hint="give a profile")
        return self.profile.shares(share, layers)

    def counts(self, shares: Sequence[float], length: int) -> list[int]:
        """Exact, or as the published code has it."""
        count = published_counts if self.rounding == "published" else token_counts
        return count(shares, length, self.floor)

    def sizes_of_prompt(self, mass: Tensor, total: int, floor: int) -> list[int]:
        """The exact search on the prompt's own importance."""
        return [int(size) for size in solve_sizes(mass, total, floor)]

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by the attention that they gathered."""
        return AttentionSum(layer, seed, rope)


def with_profile(method: CacheMethod, profile: Profile) -> CacheMethod:
    """The ranking of a method, with layer sizes from a profile."""
    if isinstance(method, PrefixKV):
        return replace(method, profile=profile)
    sizing = PrefixKV(profile=profile, **common(method))
    return Crossed.of(sizing, method.ranking if isinstance(method, Crossed) else method)
