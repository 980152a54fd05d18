"""Which files are pictures: folders, globs and names become files, in natural order, page by page."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from wildsight.errors import DataError
from wildsight.files import is_run
from wildsight.pages import FORMATS, PAGED, frames_of, page_path

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
)
SYSTEM = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
"""Folders that operating systems leave among pictures, in lower case; nothing in them counts."""


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """Picture files of a folder by suffix, in natural order (2 before 10).

    Links are followed, those that lead nowhere are listed and so named when they are read. What is hidden
    (`SYSTEM`), what a run wrote and what is no file are left out; see `wildsight.datasets.folders.left_out`.

    Raises:
        DataError: no such folder, or it cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("no such folder", where=root, hint="check the path")
    try:
        places = folders_below(root) if recursive else [root]
        files = [p for place in places for p in place.iterdir() if _looks_like_picture(p)]
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=root, hint="check its rights") from error
    return sorted(files, key=lambda p: natural_key(p.relative_to(root).as_posix()))


def folders_below(root: Path) -> Iterator[Path]:
    """``root`` and every folder below it that counts, links followed, each real folder once."""
    seen: set[Path] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        yield folder
        waiting += [p for p in sorted(folder.iterdir(), reverse=True) if p.is_dir() and counts(p)]


def counts(folder: Path) -> bool:
    """Whether a folder below the one that a user names counts: not hidden, not the system's, not a run's."""
    hidden = folder.name.startswith(".") or folder.name.casefold() in SYSTEM
    return not hidden and not is_run(folder)


def _looks_like_picture(path: Path) -> bool:
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that orders numbers inside names by value.

    >>> sorted(["a10", "a9", "a1"], key=natural_key)
    ['a1', 'a9', 'a10']
    """
    parts = re.split(r"(\d+)", text)
    return tuple((1, int(p)) if p.isdecimal() else (0, p) for p in parts if p)


def expand(spec: str | Path) -> list[Path]:
    """The pictures that a file name, a glob or a folder stands for (a folder: recursively), page by page.

    Raises:
        DataError: nothing matches.
    """
    path = Path(spec)
    if path.is_dir():
        files = list_images(path, recursive=True)
    elif os.path.lexists(path) or not glob.has_magic(str(spec)):
        files = [path]
    else:
        found = glob.glob(str(spec), recursive=True)  # noqa: PTH207
        files = [Path(p) for p in sorted(found, key=natural_key)]
    if not files:
        raise DataError("no picture found", where=spec, hint="name a file, a glob or a folder of pictures")
    return [page for file in files for page in pages_of(file)]


def pages_of(path: str | Path) -> list[Path]:
    """The pages of a file that holds several, else the file: ``scan.tif#1``, ``scan.tif#2``, ..."""
    file = Path(path)
    if file.suffix.lower() not in PAGED or not file.is_file():
        return [file]
    try:
        with Image.open(file, formats=FORMATS) as picture:
            count = len(frames_of(picture))
    except Exception:  # whatever is wrong with it is named when it is read
        return [file]
    return [file] if count < 2 else [page_path(file, number + 1) for number in range(count)]
