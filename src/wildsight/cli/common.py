"""What the commands share: the console, progress, the closing line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wildsight.errors import ConfigError

console = Console()


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A `Meter` of a command; yields ``advance(n)``."""
    from wildsight.training.progress import Meter

    with Meter(label, total) as meter:
        yield meter.add


def fresh_checkpoint(out: Path) -> Path:
    """Where a fit into ``out`` leaves its checkpoint; refused before the fit where it could not be written.

    Raises:
        ConfigError: something stands there that is no checkpoint.
    """
    from wildsight.files import MANIFEST, check_replaceable

    check_replaceable(out / "checkpoint", MANIFEST)
    return out / "checkpoint"


def pairs(options: Sequence[str] | None) -> dict[str, Any]:
    """What ``--set name=value`` gives, each value as JSON where it is, else as text.

    >>> pairs(["epochs=3", "kind=unseen", "avg-freq=null"])
    {'epochs': 3, 'kind': 'unseen', 'avg_freq': None}

    Raises:
        ConfigError: an option without a name or a value.
    """
    given: dict[str, Any] = {}
    for text in options or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(
                "needs a name and a value", where=f"--set {text}", hint="write --set name=value"
            )
        try:
            given[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            given[name.replace("-", "_")] = value
    return given


def finish(report: Path) -> None:
    """Say where the report is."""
    console.print(f"report: {report}", markup=False, soft_wrap=True, highlight=False)


def tell(lines: Sequence[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, highlight=False)


def skipped(places: Sequence[str]) -> list[str]:
    """A line for each folder of which something is left out, with the counts."""
    from wildsight.datasets.folders import left_out_line

    texts = [text for p in places for text in (p, p.partition(":")[2]) if text]
    folders = [folder for folder in map(Path, texts) if folder.is_dir()]
    return [line for folder in dict.fromkeys(folders) if (line := left_out_line(folder))]
