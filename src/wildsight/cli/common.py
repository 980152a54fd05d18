"""What the commands share: the console, progress, the closing line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def annotations_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--annotations`` and ``--outline`` ask for, checked before any work; empty for nothing.

    Raises:
        ConfigError: an unknown format or outline, or a package that is not installed.
    """
    from wildsight.errors import ConfigError

    formats, outline = values.get("annotations") or [], values.get("outline") or "polygon"
    if not formats:
        if values.get("outline"):
            raise ConfigError(
                "nothing is outlined", where="--outline", hint="give --annotations FORMAT as well"
            )
        return {}
    from wildsight.datasets.annotations.writing import check_formats

    check_formats(formats, outline)
    return {"formats": formats, "outline": outline}


def write_annotations(results: Sequence[Any], out: Path, asked: Mapping[str, Any]) -> None:
    """Write what was asked for, and say where it is."""
    from wildsight.datasets.annotations.writing import write_annotations

    if asked:
        for place in write_annotations(results, out / "annotations", **asked):
            console.print(f"annotations: {place}", markup=False, soft_wrap=True, highlight=False)


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
