"""Typed errors. Every message says what is wrong, where, and how to fix it.

The command line prints the message alone and exits with code 2; a traceback is for our own bugs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class WildSightError(Exception):
    """Base of every error a user can cause.

    Args:
        what: the fault, in one clause without a full stop.
        where: the file, folder or argument at fault; printed first.
        hint: what to do about it, in one clause.
        mend: the old name of ``hint``, accepted for one release.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | PathLike[str] | None = None,
        hint: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint if mend is None else mend
        super().__init__(self._sentence())

    @property
    def mend(self) -> str | None:
        """The old name of ``hint``; it goes with the next release."""
        return self.hint

    def _sentence(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.hint}" if self.hint else head

    def at(self, where: str | PathLike[str]) -> WildSightError:
        """The same error with its place, if it has none yet."""
        return self if self.where else type(self)(self.what, where=where, hint=self.hint)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[WildSightError], what: str, where: str | None, hint: str | None) -> WildSightError:
    return kind(what, where=where, hint=hint)


class ImageError(WildSightError):
    """A picture that cannot be turned into pixels."""


class DataError(WildSightError):
    """A folder, label file, mask or value that does not fit its documented layout."""


class CheckpointError(WildSightError):
    """A saved model that is damaged, of another kind, or made for another base."""


class ConfigError(WildSightError):
    """A setting outside its allowed range, or a combination that cannot work."""


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Around the import of a package that comes with an extra.

    >>> with needs("zither", "music"):
    ...     import zither
    Traceback (most recent call last):
    wildsight.errors.ConfigError: zither is not installed; pip install 'wildsight[music]'

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{package} is not installed", hint=f"pip install 'wildsight[{extra}]'") from error


class BudgetError(WildSightError):
    """A token, cache or memory budget that cannot be met."""


class UnsupportedModelError(WildSightError):
    """A model, tower, layer or cache that a method has no defined meaning for."""
