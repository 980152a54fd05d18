"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wildsight.discovery.datasets import READERS, CategoryData, check, read
from wildsight.files import atomic_folder, atomic_path, cache_folder, write_text
from wildsight.images import from_array
from wildsight.results import Table
from wildsight.sources import Problem, parse_source

WORLD_SETTINGS = {"seed": 0, "size": 96, "per_class": 24}


def read_source(text: str | Path) -> CategoryData:
    """The data behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    source = parse_source(text, READERS)
    if source.path is None:
        return read("folder", world_folder())
    return read(source.reader, source.path)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before any training starts; imports no torch."""
    return check(read_source(text))


def world_folder() -> Path:
    """The embedded world's categories as a plain folder, drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION
    from wildsight.world.sets import categories

    name = "-".join(f"{key}{value}" for key, value in WORLD_SETTINGS.items())
    folder = cache_folder("world") / f"categories-v{WORLD_VERSION}-{name}"
    if not folder.is_dir():
        drawn = categories(**WORLD_SETTINGS)
        export(folder, drawn.images, drawn.labels, drawn.labelled)
    return folder


def export(folder: Path, images: np.ndarray, labels: tuple[str, ...], labelled: np.ndarray) -> Path:
    """Write pictures as ``labelled/<class>``, ``unlabelled`` and ``truth.csv``, whole or not at all.

    Args:
        folder: target.
        images: [N, H, W, 3] uint8.
        labels: the class of each picture.
        labelled: [N] bool, True where the class may be seen.
    """
    truth = []
    with atomic_folder(folder) as temporary:
        for i, (pixels, label, seen) in enumerate(zip(images, labels, labelled, strict=True)):
            place = f"labelled/{label}/{i:05d}.png" if seen else f"unlabelled/{i:05d}.png"
            with atomic_path(temporary / place) as file:
                from_array(pixels).save(file, format="PNG")
            if not seen:
                truth.append([place, label])
        write_text(temporary / "truth.csv", Table(["path", "label"], truth).csv())
    return folder


__all__ = ["check_source", "export", "read_source", "world_folder"]
