"""The task's selectors of visual tokens by name."""

from __future__ import annotations

from collections.abc import Callable

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.visual import (
    baselines,
    divprune,
    hybrid,
    prumerge,
    scope,
    visionzip,
    vispruner,
    vtc_cls,
)
from wildsight.errors import ConfigError

Selector = Callable[[ImageView, int], Selection]


def _fastervlm(view: ImageView, count: int) -> Selection:
    """VTC-CLS with one layer."""
    return vtc_cls.select(view, count, vtc_cls.VTCConfig(K=1))


SELECTORS: dict[str, Selector] = {
    "hybrid": hybrid.select,
    "vtc-cls": vtc_cls.select,
    "fastervlm": _fastervlm,
    "vispruner": vispruner.select,
    "visionzip": visionzip.select,
    "prumerge": prumerge.select,
    "divprune": divprune.select,
    "scope": scope.select,
    "norm": baselines.norm,
    "grid": baselines.grid,
    "random": baselines.random,
}
FASTV = "fastv"
DEFAULT = "scope"
"""Best of all on average over counts on development questions about nano-llava, FastV aside."""
DRAWS = frozenset({"random"})
"""Selectors whose choice depends on the seed."""


def selector(name: str) -> Selector:
    """The selector called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in SELECTORS:
        raise ConfigError(
            f"no selector of visual tokens is called {name!r}",
            hint=f"use one of {', '.join([*SELECTORS, FASTV])}",
        )
    return SELECTORS[name]
