"""Sources that every task shares, whatever it asks of them: annotation formats, a CSV, the hub.

A scheme is registered here once. A task says which it understands, and how what was read becomes its samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wildsight.datasets import hub, tables
from wildsight.datasets.annotations import coco, drawn, labelme, labelstudio, yolo
from wildsight.datasets.annotations.regions import Annotated
from wildsight.datasets.defects import DefectPicture
from wildsight.datasets.faults import Faults
from wildsight.datasets.masks import TWO_VALUED
from wildsight.datasets.tables import PictureTable
from wildsight.errors import DataError
from wildsight.sources import Problem, place_of

Found = Annotated | PictureTable


def _hub(name: Path, faults: Faults) -> PictureTable:
    return tables.read(hub.table_of(name), faults)


ANNOTATIONS: Mapping[str, Callable[[Path, Faults], Annotated]] = {
    "coco": coco.read,
    "yolo": yolo.read,
    "labelme": labelme.read,
    "labelstudio": labelstudio.read,
}
TABLES: Mapping[str, Callable[[Path, Faults], PictureTable]] = {"csv": tables.read, "hf": _hub}
SCHEMES: Mapping[str, Callable[[Path, Faults], Found]] = {**ANNOTATIONS, **TABLES}
"""Name in a source -> reader; see `wildsight.sources.parse_source` for which of them name a file."""


def read(name: str, path: Path, faults: Faults | None = None) -> Found:
    """What a source of one of the `SCHEMES` holds.

    Raises:
        DataError: another content, or an entry that does not fit, unless ``faults`` notes it.
        ConfigError: an extra that is needed is not installed.
    """
    place_of(name, path)
    return SCHEMES[name](path, faults or Faults())


def read_table(name: str, path: Path) -> PictureTable:
    """What a source of one of the `TABLES` holds.

    Raises:
        DataError: as `read`.
    """
    place_of(name, path)
    return TABLES[name](path, Faults())


Interpret = Callable[[Found, Faults], Any]
"""How a task makes its samples of what a scheme found; a fault costs one of them."""


def damage(name: str, path: Path, interpret: Interpret | None) -> list[Problem]:
    """Every entry of a source that a task could not use.

    Raises:
        DataError: a folder of another layout.
    """
    faults = Faults(noted=True)
    try:
        found = read(name, path, faults)
        if interpret is not None:
            interpret(found, faults)
    except DataError as error:
        if path.is_dir() and Path(error.where or path) == path:
            raise
        return [*faults.problems, Problem(Path(error.where or path), error.what, error.hint or "correct it")]
    return faults.problems


def left_out(name: str, path: Path) -> list[Problem]:
    """One problem for all pictures beside a source's annotations that are not annotated."""
    found = read(name, path, Faults(noted=True))
    spare = found.spare if isinstance(found, Annotated) else ()
    what = f"not annotated, so left out ({len(spare)} such picture{'s' if len(spare) > 1 else ''})"
    return [Problem(spare[0], what, "annotate it, if only as empty, or remove it")] if spare else []


def defects_of(found: Found, faults: Faults) -> list[DefectPicture]:
    """The pictures of a source for the tasks of defects.

    Raises:
        DataError: one of them does not fit, unless ``faults`` notes it.
    """
    if isinstance(found, Annotated):
        return drawn.defects_of(found, faults)
    return tables.defects_of(found, TWO_VALUED)
