"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wildsight.files import cache_folder
from wildsight.segmentation.datasets import READERS, TRAIN_FRACTION, SegmentationData, check, read
from wildsight.sources import WORLD, Problem, parse_source

WORLD_SETTINGS = {"good": 1, "test_good": 0, "test_bad": 28, "size": 128, "seed": 5}


def read_source(text: str | Path, *, train_fraction: float = TRAIN_FRACTION) -> SegmentationData:
    """The data behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.
        train_fraction: share of each kind of defect that trains, where the set has no split of its own.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    source = parse_source(text, READERS)
    if source.path is None:
        return replace(read("mvtec-ad", world_folder(), train_fraction=train_fraction), name=WORLD)
    return read(source.reader, source.path, train_fraction=train_fraction)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before any training starts; imports no torch."""
    return check(read_source(text))


def world_folder() -> Path:
    """The embedded world's defects, 28 of each product, in the MVTec layout; drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION, export_products

    name = "-".join(f"{key}{value}" for key, value in WORLD_SETTINGS.items())
    folder = cache_folder("world") / f"defects-v{WORLD_VERSION}-{name}"
    return folder if folder.is_dir() else export_products(folder, **WORLD_SETTINGS)


__all__ = ["check_source", "read_source", "world_folder"]
