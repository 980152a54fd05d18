"""A data source is one string, the same in Python, on the command line and in the app.

``world`` is the embedded world, ``NAME:PATH`` a benchmark on disk or a file of annotations (`FILES`),
``hf:user/set`` a data set of the Hugging Face hub, and anything else a plain folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wildsight.errors import DataError

WORLD = "world"
FOLDER = "folder"
FILES = frozenset({"coco", "labelstudio", "csv"})
"""Readers of one file."""
HUB = "hf"
"""The reader of the hub, whose PATH is a name there, or a local folder."""


@dataclass(frozen=True)
class Source:
    """A parsed source.

    Attributes:
        reader: ``world``, ``folder`` or the name of a benchmark reader.
        path: the folder or file on disk, or the name on the hub; None for ``world``.
    """

    reader: str
    path: Path | None

    def __str__(self) -> str:
        return self.reader if self.path is None else f"{self.reader}:{self.path}"


@dataclass(frozen=True)
class Problem:
    """A fault in a data set, as every task's check names it.

    Attributes:
        file: the file or folder at fault.
        what: the fault, in one clause.
        hint: what to do about it.
    """

    file: Path
    what: str
    hint: str


def parse_source(text: str | Path, readers: Iterable[str] = ()) -> Source:
    """Read a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with NAME in ``readers``, or a folder.
        readers: names of the benchmark readers that the task has.

    Raises:
        DataError: the folder or file is missing, or NAME is not a reader of this task.

    >>> parse_source("world").reader
    'world'
    """
    known = sorted({*readers, FOLDER})
    if str(text) == WORLD:
        return Source(WORLD, None)
    name, colon, rest = str(text).partition(":")
    if colon and name in known:
        return Source(name, place_of(name, Path(rest)))
    if colon and len(name) > 1 and not Path(text).exists() and "/" not in name and "\\" not in name:
        raise DataError(f"no reader is called {name!r}", where=text, hint=f"use one of {', '.join(known)}")
    return Source(FOLDER, _folder(Path(text)))


def place_of(name: str, path: Path) -> Path:
    """``path``, which is what the reader ``name`` takes: a folder, one file, or a name on the hub.

    Raises:
        DataError: it is not there, or is of the other kind.
    """
    if name == HUB:
        return path if path.exists() or _on_hub(path) else _folder(path)
    if name not in FILES:
        return _folder(path)
    if not path.exists():
        raise DataError("no such file", where=path, hint="check the path")
    if path.is_dir():
        raise DataError("is a folder", where=path, hint=f"name the file, as in {name}:{path / 'FILE'}")
    return path


def _on_hub(name: Path) -> bool:
    """Whether a text can be the name of a set: ``SET`` or ``USER/SET``."""
    return not name.is_absolute() and len(name.parts) <= 2 and ".." not in name.parts


def _folder(path: Path) -> Path:
    if not path.exists():
        raise DataError("no such folder", where=path, hint="check the path, or use `world`")
    if not path.is_dir():
        raise DataError("not a folder", where=path, hint="name the folder that holds the pictures")
    return path
