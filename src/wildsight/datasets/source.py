"""What every task's source has in common: the readers by name, the embedded world in the cache, the check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from wildsight.datasets import formats
from wildsight.datasets.folders import unread_formats
from wildsight.datasets.ranges import range_problems, refuse_range
from wildsight.errors import DataError
from wildsight.files import atomic_folder, atomic_path, cache_folder, write_text
from wildsight.images import from_array
from wildsight.sources import Problem, parse_source, place_of

Data = TypeVar("Data")


@dataclass(frozen=True)
class DataSource(Generic[Data]):
    """How a task turns a source string into its data.

    Attributes:
        readers: name in a source -> reader of that folder; ``folder`` reads a plain one.
        world: the task's data of the embedded world.
        check: every fault of data that could be read.
        interpret: how the task takes what a shared scheme found (`wildsight.datasets.formats`).
        files: the pictures whose range nobody states, see `wildsight.datasets.ranges`.
    """

    readers: Mapping[str, Callable[[Path], Data]]
    world: Callable[[], Data]
    check: Callable[[Data], list[Problem]]
    interpret: formats.Interpret | None = None
    files: Callable[[Data], list[Path]] = lambda _: []

    def read(self, text: str | Path) -> Data:
        """The data behind a source string.

        Args:
            text: ``world``, ``NAME:PATH`` with a name of the readers, or a folder.

        Raises:
            DataError: a missing folder, one that does not fit its layout, or pictures of another range than
                they are taken for.
        """
        data = self._indexed(text)
        refuse_range(self.files(data))
        return data

    def _indexed(self, text: str | Path) -> Data:
        source = parse_source(text, self.readers)
        return self.world() if source.path is None else self.readers[source.reader](source.path)

    def problems(self, text: str | Path) -> list[Problem]:
        """Every problem found in a source, before anything is trained; imports no torch.

        A fault inside the folder that stops the reader is a problem like the others.

        Raises:
            DataError: a missing folder, or one of another layout.
        """
        source = parse_source(text, self.readers)
        root = source.path
        if root is not None and source.reader in formats.SCHEMES:
            return self._problems_of(source.reader, root)
        spare = [] if root is None else unread_formats(root)
        try:
            data = self._indexed(text)
            return [*range_problems(self.files(data)), *self.check(data), *spare]
        except DataError as error:
            if root is None or not _inside(error.where, root):
                raise
            return [Problem(Path(str(error.where)), error.what, error.hint or "correct it"), *spare]

    def _problems_of(self, scheme: str, path: Path) -> list[Problem]:
        """What is wrong with a source that all tasks share: its entries, else the data that they give."""
        damaged = formats.damage(scheme, path, self.interpret)
        spare = formats.left_out(scheme, path) if not damaged else []
        try:
            if damaged:
                return damaged
            data = self.readers[scheme](path)
            return [*range_problems(self.files(data)), *self.check(data), *spare]
        except DataError as error:
            return [Problem(Path(error.where or path), error.what, error.hint or "correct it"), *spare]


def _inside(where: str | Path | None, root: Path) -> bool:
    """Whether a fault is of something below ``root`` that is there, not of ``root`` itself."""
    file = None if where is None else Path(where)
    return file is not None and file.exists() and file != root and file.is_relative_to(root)


def read_named(readers: Mapping[str, Callable[[Path], Data]], name: str, path: str | Path) -> Data:
    """The data that the reader called ``name`` finds in a folder.

    Raises:
        DataError: an unknown name, a missing folder, or one that does not fit the layout.
    """
    if name not in readers:
        raise DataError(f"no reader is called {name!r}", hint=f"use one of {', '.join(readers)}")
    return readers[name](place_of(name, Path(path)))


def world_folder(
    name: str, version: int, settings: Mapping[str, Any], draw: Callable[[Path], object]
) -> Path:
    """A part of the embedded world as a folder in the cache, drawn on first use.

    Args:
        name: of the part.
        version: of the drawing; another one is another folder.
        settings: what it is drawn with; part of the folder's name.
        draw: writes the folder, whole or not at all (see `write_pictures`).

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    ending = "-".join(f"{key}{value}" for key, value in settings.items())
    folder = cache_folder("world") / f"{name}-v{version}-{ending}"
    if not folder.is_dir():
        draw(folder)
    return folder


def write_pictures(
    folder: Path,
    pictures: Iterable[tuple[str, np.ndarray]],
    texts: Callable[[], Mapping[str, str]] = dict,
) -> Path:
    """Write pictures, and lists beside them, whole or not at all.

    Args:
        folder: target; an earlier one of ours is replaced, anything else refused.
        pictures: (place below the folder, pixels as `wildsight.images.from_array` takes them).
        texts: asked when all pictures are written: place below the folder -> text.
    """
    with atomic_folder(folder) as temporary:
        for place, pixels in pictures:
            with atomic_path(temporary / place) as target:
                from_array(pixels).save(target, format="PNG")
        for place, text in texts().items():
            write_text(temporary / place, text)
    return folder
