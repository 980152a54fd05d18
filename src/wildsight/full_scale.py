"""The white of pictures of more than 8 bits, as it is declared for a stretch of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from wildsight.errors import ConfigError

T = TypeVar("T")
_DECLARED: ContextVar[float | None] = ContextVar("full_scale", default=None)


@contextmanager
def scaled(full_scale: float | None) -> Iterator[None]:
    """Within it, ``full_scale`` is the white of every picture of more than 8 bits that is read.

    Args:
        full_scale: as stored: 4095 for 12 bits in 16, 255 for 8-bit values in a float TIFF; None changes
            nothing.

    Raises:
        ConfigError: it is not above 0, or not finite.
    """
    token = _DECLARED.set(_DECLARED.get() if full_scale is None else checked_scale(full_scale))
    try:
        yield
    finally:
        _DECLARED.reset(token)


def checked_scale(value: float) -> float:
    """``value``, where it can be the white of a picture.

    Raises:
        ConfigError: it cannot.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"full_scale={value!r} is no value of white", hint="give one above 0, such as 4095")
    return float(value)


def carried(work: Callable[..., T]) -> Callable[..., T]:
    """``work`` as another thread may run it: it reads pictures by the white that is declared here and now."""
    scale = declared_scale()

    def within(*given: Any) -> T:
        with scaled(scale):
            return work(*given)

    return within


def declare_scale(full_scale: float | None) -> None:
    """`scaled` for all that follows in this thread, for a process that does nothing else."""
    _DECLARED.set(full_scale)


def declared_scale() -> float | None:
    """The white that `scaled` declares here; pass it on to threads and processes."""
    return _DECLARED.get()
