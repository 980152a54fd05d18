"""The ragged cache: which scorer ranks the tokens, how many each layer keeps, and when they go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from wildsight.compression.cache_layer import RaggedLayer
from wildsight.compression.methods.cache.prefixkv import solve_sizes
from wildsight.compression.methods.cache.scorer import Scorer
from wildsight.compression.methods.cache.sizes import (
    check_share,
    half_up,
    published_counts,
    pyramid_shares,
    token_counts,
    uniform_shares,
)
from wildsight.compression.profile import Profile
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError


@dataclass(frozen=True)
class KVSettings:
    """What a cache keeps; which columns follows from ``scorer``, how many per layer from ``sizes``."""

    keep: int | float = 1.0
    """A share in (0, 1] of each row's own tokens, or a number of tokens per layer on average."""
    sizes: str = "prefix"
    """``uniform``, ``pyramid``, or ``prefix``: from the profile, or without one from the prompt itself."""
    scorer: str = "attention"
    """A name from `wildsight.compression.methods.cache.base.SCORERS`."""
    profile: Profile | None = None
    """Layer sizes found beforehand."""
    start: int = 1
    """First tokens that are never evicted."""
    protect: int = 1
    """Last prompt tokens that are never evicted."""
    tail: int = 25
    """While decoding, columns before the last ``tail`` of the compressed prompt are frozen."""
    window: int = 16
    """Queries in the observation window of the scorers that have one."""
    beta: float = 20.0
    """Steepness of pyramid sizes."""
    rounding: str = "exact"
    """``exact`` meets the total; ``published`` rounds every layer on its own, as the PrefixKV code does."""
    heads: str = "own"
    """``own``: each head keeps its own columns where the scorer scores heads; ``shared``: one choice."""
    decoding: bool = True
    """Evict while decoding too; off, only the prompt is compressed."""
    seed: int = 0
    """For scorers that draw."""

    def __post_init__(self) -> None:
        if self.sizes not in ("uniform", "pyramid", "prefix"):
            raise ConfigError(f"sizes={self.sizes!r} is unknown", hint="use uniform, pyramid or prefix")
        if self.heads not in ("own", "shared"):
            raise ConfigError(f"heads={self.heads!r} is unknown", hint="use own or shared")
        if self.rounding not in ("exact", "published"):
            raise ConfigError(f"rounding={self.rounding!r} is unknown", hint="use exact or published")
        if isinstance(self.keep, int) and not isinstance(self.keep, bool):
            if self.keep < self.floor:
                raise BudgetError(
                    f"kv_cache={self.keep} tokens is below the {self.floor} that are never evicted",
                    hint=f"give at least {self.floor}",
                )
        else:
            check_share(self.keep)

    @property
    def floor(self) -> int:
        """Tokens that every layer keeps."""
        return self.start + self.protect

    @property
    def whole(self) -> bool:
        """Whether nothing is ever evicted."""
        return isinstance(self.keep, float) and self.keep == 1.0

    @property
    def online(self) -> bool:
        """Whether the sizes come from the prompt itself."""
        return self.sizes == "prefix" and self.profile is None and not self.whole

    def share_of(self, length: int) -> float:
        """The mean share for a row of ``length`` tokens."""
        return float(self.keep) if isinstance(self.keep, float) else min(1.0, self.keep / max(length, 1))

    def shares(self, share: float, layers: int) -> list[float]:
        """The share of each layer, for sizes that are known beforehand."""
        if share == 1.0 or self.sizes == "uniform":
            return uniform_shares(share, layers)
        if self.sizes == "pyramid":
            return pyramid_shares(share, layers, self.beta)
        if self.profile is None:
            raise ConfigError("sizes from the prompt have no shares beforehand", hint="give a profile")
        return self.profile.shares(share, layers)


class RaggedCache(Cache):
    """A cache for ``generate`` or ``forward``; use it inside `compress(...)` or `ragged_attention(model)`.

    Args:
        config: the model's configuration.
        settings: what is kept.
        scorer: builds a layer's scorer from (layer, settings).
        prompt_len: columns of the prompt, padding included. None: the prompt ends with the first call of one
            token, which is wrong if its last chunk is a single token.

    Raises:
        UnsupportedModelError: a layer that is neither full nor sliding-window attention.
    """

    def __init__(
        self,
        config: Any,
        settings: KVSettings,
        scorer: Callable[[int, KVSettings], Scorer],
        *,
        prompt_len: int | None = None,
    ) -> None:
        stock = DynamicCache(config=config).layers
        self.settings, self.prompt_len = settings, prompt_len
        self.lengths: list[int] = []
        self._plans: dict[int, tuple[list[float], list[int]]] = {}
        self.depth = sum(type(layer) is DynamicLayer for layer in stock)
        shares = None if settings.online or isinstance(settings.keep, int) else self._known(settings)
        layers: list[Any] = []
        for layer in stock:
            if type(layer) is DynamicLayer:
                index = sum(isinstance(made, RaggedLayer) for made in layers)
                whole = shares is not None and shares[index] == 1.0
                layers.append(RaggedLayer(self, index, scorer(len(layers), settings), whole=whole))
            elif type(layer) is DynamicSlidingWindowLayer:
                layers.append(layer)
            else:
                raise UnsupportedModelError(
                    f"{type(layer).__name__} is a cache layer that cannot be compressed",
                    hint="use a model with full or sliding-window attention",
                )
        if not self.depth:
            raise UnsupportedModelError("the model has no full-attention layer", hint="use another model")
        super().__init__(layers=layers)
        self.ragged = [layer for layer in layers if isinstance(layer, RaggedLayer)]

    def _known(self, settings: KVSettings) -> list[float]:
        return settings.shares(float(settings.keep), self.depth)

    # -- the end of the prompt -------------------------------------------------------------------------------

    def is_decoding(self, layer: RaggedLayer, queries: int) -> bool:
        """Whether a call that brings ``queries`` tokens to ``layer`` comes after the prompt."""
        if self.prompt_len is None:
            return queries == 1 and layer.seen > 0
        return layer.seen >= self.prompt_len

    def prompt_read(self, layer: RaggedLayer) -> None:
        """Compress a layer at once, or all of them after the last one if sizes need every layer's scores."""
        if self.prompt_len is None or layer.seen < self.prompt_len:
            return
        if not self.settings.online:
            self._finalise(layer)
        elif layer is self.ragged[-1]:
            self.finalise()

    def finalise(self) -> None:
        """Compress every layer whose prompt has been read."""
        waiting = [layer for layer in self.ragged if not layer.whole and not layer.done]
        if self.settings.online:
            self._finalise_online(waiting)
        else:
            for layer in waiting:
                self._finalise(layer)

    def _measure(self, layer: RaggedLayer) -> list[int]:
        if not self.lengths:
            self.lengths = layer.valid.sum(dim=1).tolist()
        return self.lengths

    def _plan(self, length: int) -> tuple[list[float], list[int]]:
        """Shares and sizes of all layers for a row of ``length`` tokens, found once."""
        if length not in self._plans:
            shares = self.settings.shares(self.settings.share_of(length), self.depth)
            count = published_counts if self.settings.rounding == "published" else token_counts
            self._plans[length] = shares, count(shares, length, self.settings.floor)
        return self._plans[length]

    def _finalise(self, layer: RaggedLayer) -> None:
        plans = [self._plan(n) for n in self._measure(layer)]
        own = [sizes[layer.index] for _, sizes in plans]
        targets = [self._target(p[0][layer.index], k) for p, k in zip(plans, own, strict=True)]
        layer.compress(layer.scores(), own, targets)

    def _finalise_online(self, layers: Sequence[RaggedLayer]) -> None:
        lengths = self._measure(layers[0])
        scores = [layer.scores() for layer in layers]
        ranking = [layer.mass() for layer in layers]
        sizes = []
        for row, length in enumerate(lengths):
            table = torch.stack([m[row, layers[0].valid[row]].to(ranking[0].device) for m in ranking])
            total = half_up(self.settings.share_of(length) * len(layers) * length)
            floor = min(self.settings.floor, length)
            total = min(max(total, floor * len(layers)), length * len(layers))
            sizes.append(solve_sizes(table, total, floor).tolist())
        for number, (layer, own) in enumerate(zip(layers, scores, strict=True)):
            counts = [s[number] for s in sizes]
            shares = [k / n for k, n in zip(counts, lengths, strict=True)]
            targets = [self._target(s, k) for s, k in zip(shares, counts, strict=True)]
            layer.compress(own, counts, targets)

    def _target(self, share: float, count: int) -> Callable[[int], float]:
        if not self.settings.decoding:
            return Fixed(sys.maxsize)
        if isinstance(self.settings.keep, int):
            return Fixed(count)
        return Share(share)

    # -- what it holds ---------------------------------------------------------------------------------------

    @property
    def tokens(self) -> list[list[int]]:
        """Columns stored now: layers, then rows."""
        return [_columns(layer) for layer in self.ragged]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values held now, spare columns and sliding-window layers included."""
        held = [t for layer in self.layers for t in (layer.keys, layer.values) if t is not None]
        return sum(t.numel() * t.element_size() for t in held)

    def reset(self) -> None:
        """Forget the prompt; the object can be used for another."""
        self.lengths = []
        for layer in self.layers:
            layer.reset()

    def crop(self, *_args: Any, **_kwargs: Any) -> None:
        """Refused, see `RaggedLayer.crop`."""
        self.ragged[0].crop()


def _columns(layer: RaggedLayer) -> list[int]:
    if layer.done:
        return list(layer.counts)
    return [] if layer.keys is None else [layer.keys.shape[2]] * layer.keys.shape[0]


@dataclass(frozen=True)
class Share:
    """A budget that grows with what has been seen."""

    share: float

    def __call__(self, seen: int) -> float:
        """Tokens allowed."""
        return self.share * seen


@dataclass(frozen=True)
class Fixed:
    """A budget that stays."""

    count: int

    def __call__(self, _seen: int, /) -> float:
        """Tokens allowed, whatever was seen."""
        return float(self.count)
