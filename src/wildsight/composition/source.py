"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from pathlib import Path

from wildsight.composition.datasets import READERS, PairData, check, read
from wildsight.errors import ConfigError, DataError
from wildsight.files import atomic_folder, atomic_path, cache_folder
from wildsight.sources import Problem, parse_source

WORLD_SETTINGS = {"seed": 0, "size": 96, "per_pair": 20, "held_out": 0.25}


def read_source(text: str | Path) -> PairData:
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
    """Every problem found in a source, before any training starts; imports no torch for plain folders."""
    try:
        return check(read_source(text))
    except DataError as error:
        if error.where is None or not Path(error.where).exists() or Path(error.where) == Path(text):
            raise
        return [Problem(Path(error.where), error.what, error.hint or "correct it")]


def world_folder(**changed: float) -> Path:
    """The embedded world's compositions as a plain folder, drawn on first use.

    Args:
        changed: those of `WORLD_SETTINGS` that differ: ``seed`` of the drawing and of the unseen pairs,
            ``size`` in pixels, ``per_pair`` training pictures, ``held_out`` share of the pairs.

    Raises:
        ConfigError: another setting, or the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION

    unknown = sorted(set(changed) - set(WORLD_SETTINGS))
    if unknown:
        raise ConfigError(f"no setting of the world is called {unknown[0]!r}", hint="see WORLD_SETTINGS")
    settings = {**WORLD_SETTINGS, **changed}
    name = "-".join(f"{key}{value}" for key, value in settings.items())
    folder = cache_folder("world") / f"compositions-v{WORLD_VERSION}-{name}"
    return folder if folder.is_dir() else _export(folder, settings)


def _export(folder: Path, settings: dict[str, float]) -> Path:
    from PIL.Image import fromarray

    from wildsight.world.sets import compositions

    drawn = compositions(
        seed=int(settings["seed"]),
        size=int(settings["size"]),
        per_pair=int(settings["per_pair"]),
        held_out=settings["held_out"],
    )
    with atomic_folder(folder) as temporary:
        for split, part in drawn.items():
            rows = zip(part.images, part.attributes, part.objects, strict=True)
            for number, (pixels, attribute, name) in enumerate(rows):
                file = temporary / split / attribute / name / f"{number:05d}.png"
                with atomic_path(file) as target:
                    fromarray(pixels).save(target, format="PNG")
    return folder


__all__ = ["check_source", "read_source", "world_folder"]
