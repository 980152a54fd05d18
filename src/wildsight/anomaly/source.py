"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from pathlib import Path

from wildsight.anomaly.datasets import READERS, AnomalyData, Problem, check, read
from wildsight.files import cache_folder
from wildsight.sources import parse_source

WORLD_SETTINGS = {"good": 60, "test_good": 20, "test_bad": 20, "size": 128, "seed": 0}


def read_source(text: str | Path) -> AnomalyData:
    """The data behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    source = parse_source(text, READERS)
    if source.path is None:
        return read("mvtec-ad", world_folder())
    return read(source.reader, source.path)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before any training starts; imports no torch."""
    return check(read_source(text))


def world_folder() -> Path:
    """The embedded world's products as a folder in the MVTec layout, drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION, export_products

    name = "-".join(f"{key}{value}" for key, value in WORLD_SETTINGS.items())
    folder = cache_folder("world") / f"products-v{WORLD_VERSION}-{name}"
    return folder if folder.is_dir() else export_products(folder, **WORLD_SETTINGS)


__all__ = ["check_source", "read_source", "world_folder"]
