"""Settings within their ranges: finite, whole where they count, and the range said where they are not."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from wildsight.errors import ConfigError


def within(value: float, name: str, low: float, high: float) -> None:
    """Raise a `ConfigError` unless ``value`` is a finite number of ``low`` to ``high``."""
    try:
        fits = low <= value <= high
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(f"is {value}", where=name, hint=f"give {_short(low)} to {_short(high)}")


def whole(value: int, name: str, low: int, high: int) -> None:
    """Raise a `ConfigError` unless ``value`` is a whole number of ``low`` to ``high``."""
    try:
        operator.index(value)
    except TypeError as error:
        hint = f"give a whole number, {low} to {high}"
        raise ConfigError(f"is {value}", where=name, hint=hint) from error
    within(value, name, low, high)


def span(values: Sequence[float], name: str, low: float, high: float) -> None:
    """Raise a `ConfigError` unless ``values`` are two numbers of ``low`` to ``high``, the smaller first."""
    try:
        first, last = values
        fits = low <= first <= last <= high
    except (TypeError, ValueError):
        fits = False
    if not fits:
        hint = f"give two numbers of {_short(low)} to {_short(high)}, the smaller first"
        raise ConfigError(f"is {values}", where=name, hint=hint)


def _short(value: float) -> str:
    """The number as a person would write it: 3.0, 6.28, 100.

    >>> _short(6.283185)
    '6.28'
    """
    return f"{value:.2f}" if isinstance(value, float) and not (value * 10).is_integer() else str(value)
