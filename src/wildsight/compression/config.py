"""What is compressed and how, checked at once: `compress`, the bench, timing and autotune share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildsight.compression import defaults
from wildsight.compression.cache import KVSettings
from wildsight.compression.families import check_saliency, check_tokens
from wildsight.compression.inputs import POSITIONS
from wildsight.compression.methods.cache.base import CACHE_METHODS, CacheMethod
from wildsight.compression.methods.parameters import parameters_of
from wildsight.compression.methods.visual.base import SELECTORS, VisualMethod, VisualSelector
from wildsight.compression.methods.visual.baselines import Grid
from wildsight.errors import ConfigError
from wildsight.estimators.registry import unknown_name

ARGUMENTS = (
    "visual_tokens", "kv_cache", "visual", "visual_options", "cache", "cache_options", "profile", "positions",
    "seed",
)  # fmt: skip
"""Keyword arguments of `CompressionConfig.of`, and so of `compress`."""


@dataclass(frozen=True)
class CompressionConfig:
    """What is compressed and how.

    Attributes:
        visual_tokens: tokens per image that the language model reads, a count or a share; None keeps all.
        visual: who drops the others.
        cache: what the cache keeps; None keeps the stock cache.
        positions: of the tokens that stay, ``compact`` or ``original``.
        seed: for methods that draw.
    """

    visual_tokens: int | float | None = None
    visual: VisualMethod = field(default_factory=lambda: SELECTORS.create(defaults.SELECTOR))
    cache: KVSettings | None = None
    positions: str = defaults.POSITIONS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise unknown_name("value of positions", self.positions, POSITIONS)
        if self.cache is not None and self.visual_tokens is not None and not self.selects:
            raise ConfigError(
                f"{self.visual.name} and a compressed cache do not combine", hint="use another selector"
            )

    @classmethod
    def of(
        cls,
        visual_tokens: int | float | None = None,
        kv_cache: int | float | None = None,
        *,
        visual: str | VisualMethod = defaults.SELECTOR,
        visual_options: Mapping[str, Any] | None = None,
        cache: str | CacheMethod = defaults.CACHE,
        cache_options: Mapping[str, Any] | None = None,
        profile: Any = None,
        positions: str = defaults.POSITIONS,
        seed: int = 0,
        **options: Any,
    ) -> CompressionConfig:
        """From the arguments of `compress`, which see.

        Raises:
            BudgetError: a share of the cache outside (0, 1].
            ConfigError: an unknown method or parameter, with the nearest one.
        """
        visual_given, cache_given = split_options(visual, cache, options)
        visual_given = {**(visual_options or {}), **visual_given}
        cache_given = {**(cache_options or {}), **cache_given}
        if profile is not None:
            cache_given["profile"] = str(profile) if isinstance(profile, Path) else profile
        chooser = SELECTORS.create(visual, visual_given)
        method = CACHE_METHODS.create(cache, cache_given)
        for half, given, budget in (
            ("visual tokens", visual_given, visual_tokens), ("cache", cache_given, kv_cache),
        ):  # fmt: skip
            if given and budget is None:
                names, wanted = ", ".join(given), "visual_tokens" if half == "visual tokens" else "kv_cache"
                raise ConfigError(f"{names} is for the {half}, and all are kept", hint=f"give {wanted} too")
        kept = None if kv_cache is None else KVSettings(kv_cache, method, seed=seed)
        return cls(visual_tokens, chooser, kept, positions, seed)

    @property
    def selects(self) -> bool:
        """Whether the tokens are chosen before the language model reads them."""
        return isinstance(self.visual, VisualSelector)

    def check(self, model: Any) -> None:
        """Refuse a model that cannot be compressed so.

        Raises:
            BudgetError: a budget that no picture can meet.
            ConfigError: more vision layers than the tower has.
            UnsupportedModelError: a model of another kind.
        """
        if self.visual_tokens is not None:
            check_tokens(model, self.visual_tokens)
            check_saliency(model, self.visual.saliency_layers)
            self.visual.check(model)


UNCOMPRESSED = CompressionConfig(visual=Grid())
"""The model as it is, with nothing read beside it."""


def split_options(
    visual: str | VisualMethod, cache: str | CacheMethod, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters by name, sorted by which of the two methods has them.

    Args:
        visual: the method that chooses visual tokens, or its name.
        cache: the method of the cache, or its name.
        options: parameters of either.

    Returns:
        Those of ``visual``, and those of ``cache``.

    Raises:
        ConfigError: a name that neither has, with the nearest one.
    """
    chooser = parameters_of(SELECTORS[visual] if isinstance(visual, str) else visual)
    keeper = CACHE_METHODS.parameters(cache) if isinstance(cache, str) else parameters_of(cache)
    for name in options:
        if name not in (*chooser, *keeper):
            raise _unknown(name, [*chooser, *keeper])
    return (
        {name: value for name, value in options.items() if name in chooser},
        {name: value for name, value in options.items() if name not in chooser},
    )


def _unknown(name: str, known: list[str]) -> ConfigError:
    """Which method has a parameter that the chosen ones lack, or else the nearest word."""
    registries: tuple[Mapping[str, type[Any]], ...] = (SELECTORS, CACHE_METHODS)
    of: dict[str, list[str]] = {}
    for method, kind in (pair for registry in registries for pair in registry.items()):
        for parameter in parameters_of(kind):
            of.setdefault(parameter, []).append(method)
    if name in of:
        text = f"{name!r} is a parameter of {', '.join(of[name])}, and of neither method that is chosen"
        return ConfigError(text, hint=f"choose one of them; the chosen ones have {', '.join(known)}")
    return unknown_name("keyword", name, list(dict.fromkeys([*ARGUMENTS, *known, *of])))
