"""What the commands share: the console, a progress bar, the closing line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console()
_stderr = Console(stderr=True)


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on a terminal, nothing elsewhere; yields ``advance(n)``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)


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
