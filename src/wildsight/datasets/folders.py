"""Picture folders: which files are pictures, which folders count, and what a class is called.

A picture is a visible file with an ending of `wildsight.images.SUFFIXES`, in upper or lower case. Hidden
files and folders, and what operating systems leave behind (`SYSTEM`), are skipped. A class is called what its
folder is called, in Unicode form NFC and with single blanks; two names that differ in case or blanks alone
are one folder on macOS and Windows, so they are named rather than read as two classes.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wildsight.errors import DataError
from wildsight.images import SYSTEM, list_images
from wildsight.sources import Problem

OTHER_PICTURES = frozenset({
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf",
    ".orf", ".rw2", ".svg", ".exr", ".hdr", ".dcm", ".ppm", ".pgm", ".pbm", ".pnm", ".dib", ".ico",
})  # fmt: skip
"""Endings of picture formats that are not read."""


def subfolders(folder: Path) -> list[Path]:
    """The folders directly inside that count, sorted by name; empty when ``folder`` is missing."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _skipped(p))


def _skipped(path: Path) -> bool:
    return path.name.startswith(".") or path.name.casefold() in SYSTEM


def pictures(folder: Path) -> list[Path]:
    """The pictures directly inside, in natural order; empty when ``folder`` is missing."""
    return list_images(folder) if folder.is_dir() else []


def by_stem(folder: Path) -> dict[str, Path]:
    """Stem -> picture of a folder; empty when it is missing.

    Raises:
        DataError: two pictures with one stem.
    """
    found: dict[str, Path] = {}
    for path in pictures(folder):
        if path.stem in found:
            raise DataError(f"shares its stem with {found[path.stem].name}", where=path, hint="keep one")
        found[path.stem] = path
    return found


def left_out(root: Path) -> dict[str, int]:
    """What is skipped below a folder: ``hidden`` (with system files), ``other`` formats, by count.

    >>> left_out(Path("no such folder"))
    {}
    """
    counts: Counter[str] = Counter()
    for path in root.rglob("*") if root.is_dir() else ():
        hidden = any(_skipped(Path(part)) for part in path.relative_to(root).parts)
        if path.is_file() and (hidden or path.suffix.lower() in OTHER_PICTURES):
            counts["hidden" if hidden else "other"] += 1
    return dict(counts)


def unread_formats(root: Path) -> list[Problem]:
    """One problem for all visible pictures below ``root`` in a format that is not read; with their count."""
    files = [p for p in root.rglob("*") if p.suffix.lower() in OTHER_PICTURES and p.is_file()]
    seen = sorted(p for p in files if not any(_skipped(Path(x)) for x in p.relative_to(root).parts))
    if not seen:
        return []
    endings = ", ".join(sorted({p.suffix.lower() for p in seen}))
    many = f"{len(seen)} picture{'s' if len(seen) > 1 else ''} in a format that is not read ({endings})"
    return [Problem(seen[0], many, "save as PNG or JPEG, or remove")]


def class_name(text: str) -> str:
    """A class name as every task writes it: Unicode form NFC, no blanks around it, single ones inside.

    >>> class_name(" fresh  apple ")
    'fresh apple'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def same_class(text: str) -> str:
    """A key that is equal for two spellings of one class: `class_name` without regard to case.

    >>> same_class("Fresh Apple") == same_class("fresh apple ")
    True
    """
    return unicodedata.normalize("NFC", class_name(text).casefold())


def one_spelling(names: Iterable[tuple[str, str | Path]]) -> None:
    """Refuse class names that differ only in case, blanks or Unicode form.

    Args:
        names: (name as written, the folder or list that has it); equal names are one class.

    Raises:
        DataError: two such names.
    """
    first: dict[str, str] = {}
    for name, where in names:
        other = first.setdefault(same_class(name), name)
        if other != name:
            what = f"classes {other!r} and {name!r} differ only in case or blanks"
            raise DataError(what, where=where, hint="give them one name")


def class_folders(root: Path) -> list[tuple[str, Path]]:
    """(class name, folder) of the folders directly inside, sorted by folder name.

    Raises:
        DataError: two folders whose names are one class.
    """
    folders = subfolders(root)
    one_spelling((p.name, p) for p in folders)
    return [(class_name(p.name), p) for p in folders]
