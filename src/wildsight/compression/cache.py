"""The ragged cache: which method ranks the tokens, how many each layer keeps, and when they go."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
)

from wildsight.compression import defaults
from wildsight.compression.cache_layer import RaggedLayer
from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.cache.scorer import Rope
from wildsight.compression.methods.cache.sizes import check_share, half_up, uniform_shares
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError


@dataclass(frozen=True, init=False)
class KVSettings:
    """What a cache keeps: how much, and by which method.

    Attributes:
        keep: a share in (0, 1] of each row's own tokens, or a number of tokens per layer on average.
        method: ranks the columns, and says how many each layer keeps.
        seed: for methods that draw.
    """

    keep: int | float
    method: CacheMethod
    seed: int

    def __init__(
        self,
        keep: int | float = 1.0,
        method: str | CacheMethod | None = None,
        *,
        seed: int = 0,
        sizes: str | None = None,
        scorer: str | None = None,
        **options: Any,
    ) -> None:
        """Check everything at once.

        Args:
            keep: a share in (0, 1] or a number of tokens.
            method: a name from `CACHE_METHODS`, ``SIZES/SCORER``, or the method itself.
            seed: for methods that draw.
            sizes, scorer: the two parts of ``SIZES/SCORER``, in place of ``method``.
            options: parameters of the method; None leaves a parameter as it is.

        Raises:
            BudgetError: ``keep`` is outside its range.
            ConfigError: an unknown method or parameter, with the nearest one.
        """
        if sizes is not None or scorer is not None:
            if method is not None:
                raise ConfigError("both a cache method and a pair are named", hint="give one of them")
            method = f"{sizes or 'prefix'}/{scorer or 'attention'}"
        given = {name: value for name, value in options.items() if value is not None}
        object.__setattr__(self, "keep", keep)
        object.__setattr__(
            self, "method", CACHE_METHODS.create(defaults.CACHE if method is None else method, given)
        )
        object.__setattr__(self, "seed", seed)
        if isinstance(keep, int) and not isinstance(keep, bool):
            if keep < self.method.floor:
                raise BudgetError(
                    f"kv_cache={keep} tokens is below the {self.method.floor} that are never evicted",
                    hint=f"give at least {self.method.floor}",
                )
        else:
            check_share(keep)

    @property
    def floor(self) -> int:
        """Tokens that every layer keeps."""
        return self.method.floor

    @property
    def whole(self) -> bool:
        """Whether nothing is ever evicted."""
        return isinstance(self.keep, float) and self.keep == 1.0

    @property
    def online(self) -> bool:
        """Whether the sizes come from the prompt itself."""
        return self.method.online and not self.whole

    def share_of(self, length: int) -> float:
        """The mean share for a row of ``length`` tokens."""
        return float(self.keep) if isinstance(self.keep, float) else min(1.0, self.keep / max(length, 1))

    def shares(self, share: float, layers: int) -> list[float]:
        """The share of each layer, for sizes that are known beforehand."""
        return uniform_shares(share, layers) if share == 1.0 else self.method.shares(share, layers)


@dataclass(frozen=True)
class Rotary:
    """A text model's rotary embedding as a function of positions; a copy of a cache shares it."""

    module: Any
    layer_type: tuple[str, ...] = ()
    """``full_attention`` where the embedding depends on the type of the layer."""

    def __call__(self, positions: Any) -> Any:
        """Cosines and sines ``[B, p, d]``."""
        return self.module(next(self.module.buffers()), positions, *self.layer_type)

    def __deepcopy__(self, _memo: Any) -> Rotary:
        return self


def rotary_of(model: Any) -> Rope | None:
    """The model's one-dimensional rotary embedding, or None."""
    text = model.config.get_text_config(decoder=True)
    if "mrope_section" in (getattr(text, "rope_parameters", None) or {}):
        return None
    found = [m for name, m in model.named_modules() if name.endswith("rotary_emb") and "vis" not in name]
    if len(found) != 1:
        return None
    by_type = "layer_type" in inspect.signature(found[0].forward).parameters
    return Rotary(found[0], ("full_attention",) if by_type else ())


def build_cache(model: Any, settings: KVSettings, prompt_len: int | None = None) -> RaggedCache:
    """A cache for ``model``.

    Raises:
        BudgetError: a profile of another model.
        UnsupportedModelError: layers that cannot be compressed, or a method that needs what the model lacks.
    """
    method = settings.method
    method.check(model.config)
    if model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{type(model).__name__} is an encoder-decoder", hint="use a decoder-only model"
        )
    rope = rotary_of(model) if method.needs_rope else None
    if method.needs_rope and rope is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no one-dimensional rotary embedding, as {method.title!r} needs",
            hint="use another cache method",
        )
    return RaggedCache(model.config, settings, rope, prompt_len=prompt_len)


KEPT = (DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer)
"""Layers that are not compressed: of windows, of a state, and of cross-attention, which no token adds to."""


class RaggedCache(Cache):
    """A cache for ``generate`` or ``forward``; use it inside `compress(...)` or `ragged_attention(model)`.

    Args:
        config: the model's configuration.
        settings: what is kept.
        rope: the model's rotary embedding, for methods that undo it.
        prompt_len: columns of the prompt, padding included. None: the prompt ends with the first call of one
            token, which is wrong if its last chunk is a single token.

    Raises:
        UnsupportedModelError: a layer of a kind that is not known. Layers of sliding windows, of linear
            attention, and of cross-attention to pictures stay as they are.
    """

    def __init__(
        self,
        config: Any,
        settings: KVSettings,
        rope: Rope | None = None,
        *,
        prompt_len: int | None = None,
    ) -> None:
        stock = DynamicCache(config=config).layers
        self.settings, self.prompt_len = settings, prompt_len
        self.lengths: list[int] = []
        self._plans: dict[int, tuple[list[float], list[int]]] = {}
        crossing = getattr(config.get_text_config(decoder=True), "cross_attention_layers", None) or ()
        ragged = [type(layer) is DynamicLayer and i not in crossing for i, layer in enumerate(stock)]
        self.depth = sum(ragged)
        shares = None if settings.online or isinstance(settings.keep, int) else self._known(settings)
        layers: list[Any] = []
        for layer, own in zip(stock, ragged, strict=True):
            if own:
                index = sum(isinstance(made, RaggedLayer) for made in layers)
                whole = shares is not None and shares[index] == 1.0
                scorer = self.method.scorer(len(layers), settings.seed, rope)
                layers.append(RaggedLayer(self, index, scorer, whole=whole))
            elif type(layer) in KEPT:
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

    @property
    def method(self) -> CacheMethod:
        """Ranks the columns, and says how many each layer keeps."""
        return self.settings.method

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
            self._plans[length] = shares, self.method.counts(shares, length)
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
            sizes.append(self.method.sizes_of_prompt(table, total, floor))
        for number, (layer, own) in enumerate(zip(layers, scores, strict=True)):
            counts = [s[number] for s in sizes]
            shares = [k / n for k, n in zip(counts, lengths, strict=True)]
            targets = [self._target(s, k) for s, k in zip(shares, counts, strict=True)]
            layer.compress(own, counts, targets)

    def _target(self, share: float, count: int) -> Callable[[int], float]:
        if not self.method.decoding:
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
        """Bytes held now, spare columns, sliding windows and the states of linear attention included."""
        return cache_bytes(self)

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


def held(cache: Any) -> list[Tensor]:
    """Every tensor that the layers of a cache hold: keys and values, or the states of linear attention."""
    found: list[Any] = []
    for layer in cache.layers:
        found += [getattr(layer, name, None) for name in ("keys", "values")]
        for name in ("conv_states", "recurrent_states"):
            states = getattr(layer, name, None) or {}
            found += states.values() if isinstance(states, dict) else list(states)
    return [t for t in found if isinstance(t, Tensor)]


def cache_bytes(cache: Any) -> int:
    """Bytes of what a cache holds."""
    return sum(t.numel() * t.element_size() for t in held(cache))


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
