"""The methods by name: the paper, its ablations and its peers, all with one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from wildsight.errors import ConfigError, DataError
from wildsight.spatial.cube_head import CubeHead
from wildsight.spatial.llmi3d import LLMI3D, LLMI3DConfig
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.text_numbers import TextNumbers


@dataclass(frozen=True)
class Method:
    """How to build a method.

    Attributes:
        build: (model, channels of the fine map, hyper-parameters) -> a module whose forward gives the
            losses of a
            batch, with ``boxes`` and ``start_from``.
        fixed: hyper-parameters that make it what it is.
        text: its boxes are decoded as text.
        oracle: it is told the 2D box.
    """

    build: Callable[[Mllm, int, LLMI3DConfig], Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    text: bool = False
    oracle: bool = False


METHODS: dict[str, Method] = {
    "llmi3d": Method(LLMI3D),
    "text": Method(TextNumbers, {"virtual": False, "Q": 1}, text=True),
    "text-virtual": Method(TextNumbers, {"virtual": True, "Q": 1}, text=True),
    "cube-head": Method(CubeHead, {"Q": 1}, oracle=True),
    "no-virtual-depth": Method(LLMI3D, {"virtual": False}),
    "no-local": Method(LLMI3D, {"local": False}),
}


def config_of(method: str, hyper: Mapping[str, Any]) -> LLMI3DConfig:
    """The hyper-parameters of a method.

    Raises:
        ConfigError: an unknown method or name, or a value that the method fixes otherwise.
    """
    if method not in METHODS:
        raise ConfigError(f"no method is called {method!r}", hint=f"use one of {', '.join(METHODS)}")
    fixed = METHODS[method].fixed
    for name, value in fixed.items():
        if hyper.get(name, value) != value:
            raise ConfigError(f"{method} has {name}={value}", hint="leave it out, or use another method")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in hyper.items()}
    try:
        return LLMI3DConfig(**{**given, **fixed})
    except TypeError as error:
        raise ConfigError(str(error), hint="see LLMI3DConfig") from error


def build(method: str, mllm: Mllm, channels: int, hyper: Mapping[str, Any]) -> nn.Module:
    """A fresh module of a method, on the model's device."""
    config = config_of(method, hyper)
    module: nn.Module = METHODS[method].build(mllm, channels, config)
    return module.to(mllm.device)


def check_count(method: str, most: int, Q: int) -> None:
    """Refuse questions with more boxes than one answer of the method holds.

    Raises:
        DataError: it would learn the first ones only.
    """
    if most > Q:
        fixed = "Q" in METHODS[method].fixed
        hint = (
            "leave such questions out, or use llmi3d"
            if fixed
            else f'set hyper={{"Q": {most}}} (--queries {most})'
        )
        raise DataError(f"a question asks for {most} boxes, an answer of {method} holds Q={Q}", hint=hint)
