"""The parameters of a method: the fields of its dataclass, checked as soon as it is made."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from wildsight.errors import ConfigError


def within(method: Any, low: float, high: float = math.inf, *names: str) -> None:
    """Refuse a parameter of ``method`` outside [low, high].

    Raises:
        ConfigError: the first one that is.
    """
    for name in names:
        value = getattr(method, name)
        if not low <= value <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"a value in [{low:g}, {high:g}]"
            raise ConfigError(
                f"{type(method).__name__}: {name}={value} is out of range", hint=f"give {wanted}"
            )


def parameters_of(method: Any) -> list[str]:
    """Names of the parameters of a method, or of its class."""
    return [f.name for f in fields(method) if f.init]
