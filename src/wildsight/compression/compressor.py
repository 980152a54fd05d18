"""The public call: a model whose ``generate`` reads fewer visual tokens and keeps a smaller cache."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildsight.backbones.vlm import activate_pruner, release_pruner
from wildsight.compression import defaults
from wildsight.compression.cache import KVSettings, RaggedCache
from wildsight.compression.config import CompressionConfig
from wildsight.compression.families import family_of, refuse_video
from wildsight.compression.generate_call import (
    Call,
    Turn,
    check_cache_call,
    check_plain_call,
    split_turn,
    with_prompt,
)
from wildsight.compression.handoff import forget
from wildsight.compression.inputs import placeholder_flags
from wildsight.compression.methods.cache.base import CacheMethod
from wildsight.compression.methods.visual.base import VisualMethod
from wildsight.compression.profile import Profile
from wildsight.compression.prune import Pruned
from wildsight.compression.reader import Reader, reading
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError


@contextmanager
def naming(model: Any) -> Iterator[None]:
    """Let what is refused inside the block name the model."""
    name = type(model).__name__
    try:
        yield
    except (BudgetError, UnsupportedModelError) as error:
        if name in str(error):
            raise
        raise error.at(name) from None


def unwrapped(model: Any) -> Any:
    """The model of `transformers` inside ``torch.compile`` and PEFT, which call its ``generate``.

    Raises:
        UnsupportedModelError: prompt learning of PEFT, which puts tokens of its own before the prompt.
    """
    model = getattr(model, "_orig_mod", model)
    if not hasattr(model, "get_base_model"):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise UnsupportedModelError(
            f"{type(model).__name__} with prompt learning puts tokens of its own before the prompt",
            hint="merge or remove the adapter",
        )
    return unwrapped(model.get_base_model())


class Compressed:
    """A handle on a compressed model: ``remove()``, or the end of a ``with`` block, leaves it as it was.

    Attributes:
        model: the model.
        config: what is compressed and how.
        pruned: the last batch that was shortened; let go when the next one comes.
        cache: the last cache that was made; let go when the next one is.
    """

    def __init__(self, model: Any, config: CompressionConfig) -> None:
        self.model, self.config = model, config
        self.pruned: Pruned | None = None
        self.cache: RaggedCache | None = None
        self._turns: weakref.WeakKeyDictionary[Any, Turn] = weakref.WeakKeyDictionary()
        self._undo = ExitStack()
        self._before = model.__dict__.get("generate")
        self._reader = self._activate()

    @property
    def visual_tokens(self) -> int | float | None:
        """Tokens per image that stay, a count or a share; None keeps all."""
        return self.config.visual_tokens

    @property
    def visual(self) -> VisualMethod:
        """Who chooses them."""
        return self.config.visual

    @property
    def settings(self) -> KVSettings | None:
        """What the cache keeps, or None."""
        return self.config.cache

    @property
    def positions(self) -> str:
        """Positions of the survivors, ``compact`` or ``original``."""
        return self.config.positions

    def _activate(self) -> Reader:
        if isinstance(getattr(self._before, "__self__", None), Compressed):
            raise ConfigError(
                f"{type(self.model).__name__} is compressed already", hint="call remove() on its handle first"
            )
        reader = self._undo.enter_context(reading(self.model, self.config))
        if self.visual_tokens is not None:
            activate_pruner(self.model, self)
            self._undo.callback(release_pruner, self.model, self)
        self.model.generate = self.generate
        return reader

    def remove(self) -> None:
        """Leave the model exactly as it was found; done again it changes nothing."""
        if self.model.__dict__.get("generate") == self.generate:
            del self.model.generate
            if self._before is not None:
                self.model.generate = self._before
            self._undo.close()
        forget()

    def __enter__(self) -> Compressed:
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()

    # -- parts that can be used alone ------------------------------------------------------------------------

    def prune(self, inputs: Mapping[str, Any]) -> Pruned:
        """Shorten a processor's inputs; see `prune_visual_tokens`.

        Raises:
            ConfigError: the method drops tokens inside the language model.
        """
        if not self.config.selects:
            raise ConfigError(f"{self.visual.name} prunes no inputs", hint="use another selector")
        self.pruned = None
        self.pruned = self._reader.prune(inputs)
        return self.pruned

    def new_cache(self, prompt_len: int | None = None) -> RaggedCache:
        """An empty cache for a prompt of ``prompt_len`` columns, for ``generate`` or ``forward``.

        Raises:
            ConfigError: the cache is not compressed.
        """
        self.cache = self._reader.new_cache(prompt_len)
        return self.cache

    # -- generate --------------------------------------------------------------------------------------------

    def _stock(self) -> Callable[..., Any]:
        if self._before is not None:
            return self._before
        return type(self.model).generate.__get__(self.model)

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **kwargs: Any) -> Any:
        """As the model's own ``generate``; the returned sequences begin with the prompt as it was given.

        Raises:
            BudgetError: a budget that the prompt cannot meet, or placeholders that do not match the pictures.
            UnsupportedModelError: a cache or decoding mode that cannot be compressed.
        """
        call = Call.read(inputs, kwargs, self.model.generation_config)
        with naming(self.model):
            if self.settings is not None:
                check_cache_call(call, self.settings)
            if self.visual_tokens is None:
                return self._with_cache(call)
            check_plain_call(call, self.positions)
        return self._visual(call) if self.config.selects else self._inside(call)

    def _with_cache(self, call: Call) -> Any:
        """Give a first turn its cache."""
        forget()
        self.cache = None
        if self.settings is not None and call.past is None:
            call.options["past_key_values"] = self.new_cache(call.columns)
        elif isinstance(call.past, RaggedCache):
            self.cache = call.past
        return self._stock()(**call.options)

    def _visual(self, call: Call) -> Any:
        """Shorten what is new, put it behind what the cache has seen, and give the caller his prompt back."""
        refuse_video(call.options)
        pixels = family_of(self.model).pixels
        before = None if call.past is None else self._turns.get(call.past)
        fresh = split_turn(call.options, before, pixels)
        if before is None and call.past is not None and call.past.get_seq_length():
            raise ConfigError(
                "the cache holds a prompt that was not pruned here", hint="begin with an empty one"
            )
        pictures = fresh.get("pixel_values") is not None
        if not pictures and before is None:
            self._refuse_placeholders(fresh)
            return self._with_cache(call)
        prompt = call.options["input_ids"]
        length = fresh["input_ids"].shape[1]
        now = Turn.of(self.prune(fresh), length) if pictures else Turn.of_text(fresh, pixels)
        now = now if before is None else before.then(now)
        out = self._with_cache(call.replaced(now, prompt.shape[1], pixels))
        cache = getattr(out, "past_key_values", None)
        if cache is not None and call.beams == 1:
            self._turns[cache] = now
        return with_prompt(out, prompt, now.ids.shape[1])

    def _refuse_placeholders(self, fresh: Mapping[str, Any]) -> None:
        """A first turn without pictures has no placeholders either; later ones may have generated some."""
        if fresh.get("mm_encoder_outputs"):
            raise ConfigError("encoded images cannot be pruned", hint="give pixels in their place")
        placeholder_flags(fresh["input_ids"], self.model.config.image_token_id, [], type(self.model).__name__)

    def _inside(self, call: Call) -> Any:
        """Tokens are dropped inside the language model, which reads the prompt as it was given."""
        if call.past is not None:
            raise ConfigError(
                f"{self.visual.name} starts with an empty cache", hint="leave past_key_values out"
            )
        call.options["past_key_values"] = self._reader.cache_for(call.options)
        return self._stock()(**call.options)


def compress(
    model: Any,
    visual_tokens: int | float | None = None,
    kv_cache: int | float | None = None,
    *,
    visual: str | VisualMethod = defaults.SELECTOR,
    visual_options: Mapping[str, Any] | None = None,
    cache: str | CacheMethod = defaults.CACHE,
    cache_options: Mapping[str, Any] | None = None,
    profile: Profile | str | Path | None = None,
    positions: str = defaults.POSITIONS,
    seed: int = 0,
    kv: str | CacheMethod | None = None,
    **options: Any,
) -> Compressed:
    """Make a multimodal or text model cheaper, until ``remove()`` or the end of a ``with`` block.

    Args:
        model: one of `wildsight.compression.families.FAMILIES`; any decoder-only model of `transformers` for
            ``kv_cache`` alone. Attention must be sdpa or eager where the cache is compressed. A model inside
            ``torch.compile`` or PEFT is taken out of it, and answers compressed through either.
        visual_tokens: tokens per image that the language model reads: a count, or a share in (0, 1].
        kv_cache: what the cache keeps: a share in (0, 1] of each row's tokens, or tokens per layer.
        visual: who chooses the tokens: a name from `SELECTORS`, or a method such as ``VTCCLS(K=7)``.
        visual_options: its parameters by name, such as ``{"K": 7}``.
        cache: how the cache is shared out and ranked: a name from `CACHE_METHODS`, ``SIZES/SCORER``, or a
            method such as ``SnapKV(window=32)``.
        cache_options: its parameters by name.
        profile: layer sizes found beforehand, or their file; for ``prefixkv`` and ``prefix/SCORER``.
        positions: ``compact`` or ``original`` positions of the survivors.
        seed: for methods that draw.
        kv: another name for ``cache``.
        options: parameters of either method, such as ``K``, ``start``, ``tail``, ``window`` or ``beta``.

    Returns:
        A handle. ``model.generate`` is compressed as long as it lives.

    Raises:
        BudgetError: a budget outside its range, or a profile of another model.
        ConfigError: an unknown method, parameter or keyword, with the nearest one; a model that is compressed
            already.
        UnsupportedModelError: a model that cannot be compressed.
    """
    if visual_tokens is None and kv_cache is None:
        raise ConfigError("nothing to compress", hint="give visual_tokens, kv_cache or both")
    if kv is not None and cache != defaults.CACHE:
        raise ConfigError("cache and kv are two names for one thing", hint="give cache alone")
    model = unwrapped(model)
    with naming(model):
        config = CompressionConfig.of(
            visual_tokens,
            kv_cache,
            visual=visual,
            visual_options=visual_options,
            cache=cache if kv is None else kv,
            cache_options=cache_options,
            profile=profile,
            positions=positions,
            seed=seed,
            **options,
        )
        config.check(model)
        return Compressed(model, config)
