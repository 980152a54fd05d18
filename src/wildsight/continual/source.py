"""From a source string to a sequence of tasks: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from pathlib import Path

from wildsight.continual.data import TaskSequence
from wildsight.continual.datasets import READERS, check, read
from wildsight.errors import DataError
from wildsight.files import atomic_folder, atomic_path, cache_folder, write_json
from wildsight.sources import Problem, parse_source

LEARNED, ALL = 6, 9
PROBES = ("fog", "glare")
"""Tasks of the world that are never part of its sequence: its guard set."""


def read_source(text: str | Path, *, guard: bool = False) -> TaskSequence:
    """The sequence behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.
        guard: of the world, the probe tasks in place of the learned ones.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    source = parse_source(text, READERS)
    if source.path is None:
        return read("folder", world_folder(probes=guard))
    return read(source.reader, source.path)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before anything is learned; imports no torch."""
    try:
        return check(read_source(text))
    except DataError as error:
        if error.where is None or not Path(error.where).exists() or Path(error.where) == Path(text):
            raise
        return [Problem(Path(error.where), error.what, error.hint or "correct it")]


def world_folder(
    *, seed: int = 0, size: int = 96, per_class: int = 12, count: int = LEARNED, probes: bool = False
) -> Path:
    """The embedded world's tasks as a plain folder, drawn on first use.

    Args:
        seed: of the drawing.
        size: side, pixels.
        per_class: training pictures of each class; half as many for test.
        count: of the learned tasks, 1 to 6.
        probes: the guard tasks in place of the learned ones.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION

    kind = "guard" if probes else "tasks"
    name = f"{kind}-v{WORLD_VERSION}-seed{seed}-size{size}-per_class{per_class}-count{count}"
    folder = cache_folder("world") / name
    if folder.is_dir():
        return folder
    settings = {"seed": seed, "size": size, "per_class": 4 if probes else per_class}
    return _export(folder, settings | {"count": ALL if probes else count}, probes)


def _export(folder: Path, settings: dict[str, int], probes: bool) -> Path:
    from PIL.Image import fromarray

    from wildsight.world.sets import tasks

    made = tasks(**settings)
    chosen = [t for t in made if t.name in PROBES] if probes else made
    with atomic_folder(folder) as temporary:
        for task in chosen:
            parts = (
                ("train", task.train_images, task.train_labels),
                ("test", task.test_images, task.test_labels),
            )
            for split, images, labels in parts:
                for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
                    place = temporary / task.name / split / task.class_names[label].replace(" ", "_")
                    with atomic_path(place / f"{number:05d}.png") as target:
                        fromarray(pixels).save(target, format="PNG")
        rows = [{"name": t.name, "classes": t.class_names, "templates": t.templates} for t in chosen]
        write_json(temporary / "tasks.json", {"tasks": rows})
    return folder


__all__ = ["check_source", "read_source", "world_folder"]
