"""Progress with the time left: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0
Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell ``listener`` (what runs, steps done, steps there are) how far every meter of this context is.

    >>> with listening(lambda label, done, total: print(label, done, "of", total)):
    ...     with Meter("reading", 3, enabled=False) as meter:
    ...         meter.add(2)
    reading 2 of 3
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Meter:
    """Shows how far a run is; a context manager.

    Args:
        label: what is running.
        total: steps there are.
        enabled: False shows nothing.
    """

    def __init__(self, label: str, total: int, *, enabled: bool = True) -> None:
        self.label, self.total, self.enabled = label, total, enabled
        self.first: int | None = None
        self.done = 0
        self.began = self.shown = time.monotonic()
        self.bar: Progress | None = None
        self.listener = _listener.get()

    def __enter__(self) -> Self:
        if self.enabled and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.label, total=self.total)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def add(self, count: int) -> None:
        """Say that ``count`` more steps are done."""
        self.done += count
        self.update(self.done)

    def update(self, done: int, loss: float | None = None) -> None:
        """Say that ``done`` steps are done."""
        if self.listener is not None:
            self.listener(self.label, done, self.total)
        if self.first is None:
            self.first = done
        text = self.label if loss is None else f"{self.label} loss {loss:.4g}"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=text)
        elif self.enabled and time.monotonic() - self.shown >= EVERY and done > self.first:
            self.shown = time.monotonic()
            left = (self.shown - self.began) / (done - self.first) * (self.total - done)
            print(f"{text}: step {done}/{self.total}, {left:.0f} s left", file=sys.stderr, flush=True)
