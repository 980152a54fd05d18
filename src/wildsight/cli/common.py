"""What the commands share: the console, progress, the closing line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console()


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A `Meter` of a command; yields ``advance(n)``."""
    from wildsight.training.progress import Meter

    with Meter(label, total) as meter:
        yield meter.add


def beside(meter: Any, lines: Sequence[str]) -> None:
    """Print lines while a `Meter` runs: above its bar where it draws one on the same terminal."""
    place = meter.bar.console if meter.bar is not None and console.is_terminal else console
    for line in lines:
        place.print(line, markup=False, soft_wrap=True, highlight=False)


def fresh_checkpoint(out: Path) -> Path:
    """Where a fit into ``out`` leaves its checkpoint; refused before the fit where it could not be written.

    Raises:
        ConfigError: something stands there that is no checkpoint.
    """
    from wildsight.files import MANIFEST, check_replaceable

    check_replaceable(out / "checkpoint", MANIFEST)
    return out / "checkpoint"


def finish(report: Path) -> None:
    """Say where the report is."""
    console.print(f"report: {report}", markup=False, soft_wrap=True, highlight=False)
