"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from pathlib import Path

from wildsight.files import atomic_folder, cache_folder, write_json
from wildsight.images import from_array
from wildsight.retrieval.datasets import READERS, RetrievalData, check, read
from wildsight.sources import Problem, parse_source

WORLD_SETTINGS = {"seed": 0, "size": 96, "per_class": 24, "unseen": 5}
WORLD_VERSION = 1


def read_source(text: str | Path) -> RetrievalData:
    """The data behind a source string.

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
    """The embedded world's sketches and photos as a plain folder, drawn on first use."""
    from wildsight.world.sets import sketches

    name = "-".join(f"{key}{value}" for key, value in WORLD_SETTINGS.items())
    folder = cache_folder("world") / f"sketches-v{WORLD_VERSION}-{name}"
    if folder.is_dir():
        return folder
    sets = sketches(**WORLD_SETTINGS)
    with atomic_folder(folder) as temporary:
        for split, part in sets.items():
            sides = (
                ("photos", part.photos, part.photo_labels),
                ("sketches", part.sketches, part.sketch_labels),
            )
            for side, pictures, labels in sides:
                for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                    target = temporary / side / label / f"{split}-{number:05d}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    from_array(picture).save(target)
        held = {"validation": sets["val"], "test": sets["test"]}
        write_json(temporary / "classes.json", {k: sorted(set(v.photo_labels)) for k, v in held.items()})
    return folder
