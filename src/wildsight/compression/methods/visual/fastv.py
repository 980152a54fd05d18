"""FastV: after the second layer of the language model, drop the image tokens that the last token ignores.

Paper: "An Image is Worth 1/2 Tokens After Layer 2: Plug-and-Play Inference Acceleration for Large
Vision-Language Models" (ECCV 2024, arXiv 2403.06764). Implemented: score is the head-mean attention of the
last prompt token in layer K; the tokens are taken out of the hidden states, so that later layers neither
compute nor cache them.

Differences from the published code:
    1. Each row of a batch keeps its own tokens; the published code shares the first row's.
    2. Layers 1 to K read all tokens: `effective_tokens` gives the average that a comparison must state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wildsight.compression import attention
from wildsight.compression.cache import KVSettings, RaggedCache
from wildsight.compression.cache_layer import RaggedLayer
from wildsight.compression.families import family_of
from wildsight.compression.handoff import forget
from wildsight.compression.methods.cache.base import CacheMethod
from wildsight.compression.methods.cache.scorer import Rope, Scorer, Stored
from wildsight.compression.methods.cache.snapkv import Window
from wildsight.compression.methods.parameters import within
from wildsight.compression.methods.visual.base import SELECTORS, CacheMaker, VisualMethod, keep_best
from wildsight.errors import ConfigError, UnsupportedModelError
from wildsight.keep import n_keep


@SELECTORS.register("fastv")
@dataclass(frozen=True)
class FastV(VisualMethod):
    """FastV; the default is the paper's."""

    K: int = 2
    """Layers of the language model that read every token."""

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "K")

    def check(self, model: Any) -> None:
        """LLaVA and VIP-LLaVA alone, and a K below the depth of their language model."""
        if not family_of(model).inside:
            raise UnsupportedModelError(
                f"FastV knows the layers of LLaVA and VIP-LLaVA with a tower of one size, not of"
                f" {type(model).__name__} as it is here",
                hint="use another selector",
            )
        depth = int(model.config.get_text_config(decoder=True).num_hidden_layers)
        if depth <= self.K:
            raise ConfigError(f"K={self.K} is outside [1, {depth - 1}]", hint="choose a lower layer")

    def layer_tokens(self, total: int, kept: int, layers: int) -> float:
        """The first K layers read all; see `effective_tokens`."""
        return effective_tokens(total, kept, layers, self.K)

    def inside(self, model: Any, keep: int | float) -> AbstractContextManager[CacheMaker]:
        """Hooks before the layers behind the first K."""
        return fastv_hooks(model, self.K, keep)


def effective_tokens(total: int, kept: int, layers: int, K: int = 2) -> float:
    """Image tokens per layer on average.

    >>> effective_tokens(576, 64, 32)
    96.0
    """
    return (K * total + (layers - K) * kept) / layers


def surviving_columns(score: Tensor, image: Tensor, mask: Tensor, keep: int | float, pictures: int) -> Tensor:
    """Columns that go on, padded on the left with -1.

    Args:
        score: ``[B, T]``.
        image: ``[B, T]`` bool, image tokens.
        mask: ``[B, T]``, 0 for padding.
        keep: count per image, or share.
        pictures: tokens of one image, to turn a count per image into one per row; 0 if the prompts hold none.

    Returns:
        ``[B, T']`` ascending.
    """
    rows = []
    for own, here, real in zip(score, image, mask.bool(), strict=True):
        places = here.nonzero()[:, 0]
        stay = real & ~here
        if places.numel():
            per = n_keep(pictures, keep)
            count = per * (places.numel() // pictures)
            stay[places[keep_best(own[places], count)]] = True
        rows.append(stay.nonzero()[:, 0])
    width = max(r.numel() for r in rows)
    return torch.stack([torch.nn.functional.pad(r, (width - r.numel(), 0), value=-1) for r in rows])


class FastVCache(RaggedCache):
    """A cache whose layers from K on hold fewer image tokens.

    Args:
        model: of the LLaVA family.
        K: layers that read every token.
        keep: image tokens that stay, a count per image or a share.
        ids: ``[B, T]`` prompt.
        mask: ``[B, T]``.
    """

    def __init__(self, model: Any, K: int, keep: int | float, ids: Tensor, mask: Tensor) -> None:
        super().__init__(model.config, KVSettings(1.0, ByLastQuery()), prompt_len=ids.shape[1])
        self.K, self.keep, self.image, self.mask = K, keep, ids == model.config.image_token_id, mask
        self.pictures = _one_picture(model, self.image)
        self.columns: Tensor | None = None
        self.ragged[K - 1].whole = not bool(self.image.any())

    def prompt_read(self, layer: RaggedLayer) -> None:
        """Choose once layer K has read the prompt."""
        batch = layer.valid.shape[0] // self.image.shape[0]
        image, mask = (t.repeat_interleave(batch, dim=0) for t in (self.image, self.mask))
        self.columns = surviving_columns(layer.mass(), image, mask, self.keep, self.pictures)
        layer.scorer.reset()
        layer.whole = True
        for later in self.ragged[self.K :]:
            later.preset = self.columns

    def reset(self) -> None:
        """Refused: the columns belong to one prompt.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a FastV cache serves one prompt", hint="make another")


class LastQuery(Window):
    """Attention of the last query, unsmoothed."""

    def mass(self, stored: Stored, /) -> Tensor:
        """Head-mean attention."""
        return self.votes(stored).mean(dim=1)


@dataclass(frozen=True)
class ByLastQuery(CacheMethod):
    """The ranking of FastV's cache, which forgets nothing but the image tokens."""

    def scorer(self, layer: int = 0, seed: int = 0, rope: Rope | None = None) -> Scorer:
        """Columns are ranked by the attention of the last token."""
        return LastQuery(layer, seed, rope, window=1)


def _one_picture(model: Any, image: Tensor) -> int:
    """Tokens of one picture: all pictures of a LLaVA have the same number."""
    tokens = family_of(model).tokens(model) or 1
    counts = image.sum(dim=1)
    if bool((counts % tokens).any()):
        raise ConfigError(f"the prompts hold no whole pictures of {tokens} tokens", hint="use the processor")
    return tokens


@contextmanager
def fastv_hooks(model: Any, K: int, keep: int | float) -> Iterator[Callable[[Mapping[str, Any]], FastVCache]]:
    """Run a LLaVA with FastV inside the block.

    Args:
        model: of the LLaVA family.
        K: layers that read every token.
        keep: image tokens that stay, a count per image or a share.

    Yields:
        Makes the cache for a call's arguments (``input_ids``, ``attention_mask``).
    """
    made: list[FastVCache] = []
    undo = attention.switch(model)
    layers = model.model.language_model.layers
    handles = [
        layer.register_forward_pre_hook(_shortener(made, first=index == K), with_kwargs=True)
        for index, layer in enumerate(layers)
        if index >= K
    ]

    def make(options: Mapping[str, Any]) -> FastVCache:
        ids = options["input_ids"]
        given = options.get("attention_mask")
        made[:] = [FastVCache(model, K, keep, ids, torch.ones_like(ids) if given is None else given)]
        return made[0]

    try:
        yield make
    finally:
        for handle in handles:
            handle.remove()
        forget()
        undo()


def _shortener(made: list[FastVCache], *, first: bool) -> Any:
    """A hook before a later layer: hidden states, positions and mask of the survivors alone."""

    def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        columns = made[0].columns if made else None
        cache = kwargs.get("past_key_values")
        if columns is None or cache is not made[0] or cache.ragged[-1].done:
            return None
        hidden = args[0] if args else kwargs.pop("hidden_states")
        if first:
            hidden = _rows(hidden, columns)
        cos, sin = (_rows(p.expand(columns.shape[0], -1, -1), columns) for p in kwargs["position_embeddings"])
        places = kwargs.get("position_ids")
        if places is not None:
            places = places.expand(columns.shape[0], -1).gather(1, columns.clamp_min(0))
        mask = _square(kwargs.get("attention_mask"), columns, hidden.dtype)
        new = {"position_embeddings": (cos, sin), "position_ids": places, "attention_mask": mask}
        return (hidden, *args[1:]), {**kwargs, **new}

    return hook


def _rows(values: Tensor, columns: Tensor) -> Tensor:
    """``[B, T, d]`` to ``[B, T', d]``."""
    return values.gather(1, columns.clamp_min(0)[..., None].expand(-1, -1, values.shape[2]))


def _square(mask: Tensor | None, columns: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The mask among survivors: None stays None where no row was padded."""
    gaps = bool((columns < 0).any())
    if mask is None and not gaps:
        return None
    index = columns.clamp_min(0)
    if mask is None:
        return (index[:, None, :, None] >= index[:, None, None, :]) & (columns >= 0)[:, None, None, :]
    mask = mask.expand(columns.shape[0], -1, -1, -1)
    wide = mask.gather(2, index[:, None, :, None].expand(-1, 1, -1, mask.shape[3]))
    small = wide.gather(3, index[:, None, None, :].expand(-1, 1, columns.shape[1], -1))
    closed = False if small.dtype == torch.bool else torch.finfo(dtype).min
    return small.masked_fill((columns < 0)[:, None, None, :], closed)
