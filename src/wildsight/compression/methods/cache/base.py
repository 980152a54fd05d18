"""The task's cache methods by name: sizes crossed with scorers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wildsight.compression.cache import KVSettings, RaggedCache
from wildsight.compression.methods.cache.expected_attention import Expected
from wildsight.compression.methods.cache.h2o import AttentionMean, AttentionSum
from wildsight.compression.methods.cache.keynorm import KeyDiff, KeyNorm
from wildsight.compression.methods.cache.mixkv import Mix
from wildsight.compression.methods.cache.scorer import Rope, Scorer
from wildsight.compression.methods.cache.snapkv import Window
from wildsight.compression.methods.cache.streaming_llm import Random, Recent
from wildsight.errors import ConfigError, UnsupportedModelError

SCORERS: dict[str, type[Scorer]] = {
    "attention": AttentionSum,
    "attention-mean": AttentionMean,
    "window": Window,
    "expected": Expected,
    "key-norm": KeyNorm,
    "key-diff": KeyDiff,
    "mix": Mix,
    "recent": Recent,
    "random": Random,
}
KV_METHODS: dict[str, tuple[str, str]] = {
    "prefixkv": ("prefix", "attention"),
    "h2o": ("uniform", "attention"),
    "snapkv": ("uniform", "window"),
    "pyramidkv": ("pyramid", "window"),
    "local": ("uniform", "recent"),
    "expected": ("uniform", "expected"),
    "keynorm": ("uniform", "key-norm"),
    "keydiff": ("uniform", "key-diff"),
    "mixkv": ("uniform", "mix"),
    "random": ("uniform", "random"),
}
"""Name -> (sizes, scorer). Any other pair is written ``sizes/scorer``, e.g. ``prefix/window``."""


def kv_method(name: str) -> tuple[str, str]:
    """Sizes and scorer of a method.

    Raises:
        ConfigError: no such method.

    >>> kv_method("snapkv"), kv_method("prefix/window")
    (('uniform', 'window'), ('prefix', 'window'))
    """
    sizes, slash, scorer = name.partition("/")
    if name in KV_METHODS:
        return KV_METHODS[name]
    if slash and scorer in SCORERS and sizes in ("uniform", "pyramid", "prefix"):
        return sizes, scorer
    raise ConfigError(
        f"no cache method is called {name!r}",
        hint=f"use one of {', '.join(KV_METHODS)}, or SIZES/SCORER with {', '.join(SCORERS)}",
    )


@dataclass(frozen=True)
class Rotary:
    """A text model's rotary embedding as a function of positions; a copy of a cache shares it."""

    module: Any

    def __call__(self, positions: Any) -> Any:
        """Cosines and sines ``[B, p, d]``."""
        return self.module(next(self.module.buffers()), positions)

    def __deepcopy__(self, _memo: Any) -> Rotary:
        return self


def rotary_of(model: Any) -> Rope | None:
    """The model's one-dimensional rotary embedding, or None."""
    text = model.config.get_text_config(decoder=True)
    if "mrope_section" in (getattr(text, "rope_parameters", None) or {}):
        return None
    found = [m for name, m in model.named_modules() if name.endswith("rotary_emb") and "vis" not in name]
    return Rotary(found[0]) if len(found) == 1 else None


def build_cache(model: Any, settings: KVSettings, prompt_len: int | None = None) -> RaggedCache:
    """A cache for ``model``.

    Raises:
        BudgetError: a profile of another model.
        ConfigError: an unknown scorer.
        UnsupportedModelError: layers that cannot be compressed, or a scorer that needs what the model lacks.
    """
    if settings.scorer not in SCORERS:
        raise ConfigError(
            f"no key scorer is called {settings.scorer!r}", hint=f"use one of {', '.join(SCORERS)}"
        )
    if settings.profile is not None:
        settings.profile.check(model.config)
    if model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{type(model).__name__} is an encoder-decoder", hint="use a decoder-only model"
        )
    kind = SCORERS[settings.scorer]
    rope = rotary_of(model) if kind.needs_rope else None
    if kind.needs_rope and rope is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no one-dimensional rotary embedding, as {settings.scorer!r} needs",
            hint="use another key scorer",
        )

    def scorer(layer: int, own: KVSettings) -> Scorer:
        return kind(layer, own.seed, own.window, rope)

    return RaggedCache(model.config, settings, scorer, prompt_len=prompt_len)
