"""Picture folders: which files are pictures, which folders count, and what a class is called.

A picture is a visible file with an ending of `wildsight.images.SUFFIXES`, in upper or lower case; links are
followed. Hidden files and folders, what operating systems leave behind (`SYSTEM`), and folders that a run
wrote are skipped, and counted by `left_out`. A class is called what its folder is called, in Unicode form NFC
and with single blanks; two names that differ in case or blanks alone are one folder on macOS and Windows, so
they are named rather than read as two classes.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wildsight.errors import DataError
from wildsight.files import is_run
from wildsight.images import SUFFIXES, list_images
from wildsight.listing import counts, folders_below
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
    return sorted(p for p in folder.iterdir() if p.is_dir() and counts(p))


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
    """What is skipped below a folder, by count: files that are ``hidden`` (the system's among them), in
    ``other`` formats or ``special`` (pipes, devices), and folders that a ``run`` wrote.

    >>> left_out(Path("no such folder"))
    {}
    """
    found: Counter[str] = Counter()
    waiting, seen = [(root, False)] if root.is_dir() else [], set[Path]()
    while waiting:
        folder, hidden = waiting.pop()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        for path in folder.iterdir():
            if path.is_dir() and is_run(path):
                found["run"] += 1
            elif path.is_dir():
                waiting.append((path, hidden or not counts(path)))
            else:
                found[_kind(path, hidden)] += 1
    found.pop("", None)
    return dict(found)


def _kind(path: Path, hidden: bool) -> str:
    """Why a file is skipped; empty where it is not, or is no picture at all."""
    if hidden or path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() in OTHER_PICTURES:
        return "other"
    return "special" if path.suffix.lower() in SUFFIXES and path.exists() and not path.is_file() else ""


_WORDS = {
    "hidden": ("hidden or system file", "hidden or system files"),
    "other": ("picture in a format that is not read", "pictures in formats that are not read"),
    "special": ("picture that is no regular file", "pictures that are no regular files"),
    "run": ("folder that a run wrote", "folders that runs wrote"),
}


def left_out_line(root: Path) -> str | None:
    """One line that says what is skipped below a folder, with the counts; None where nothing is."""
    found = left_out(root)
    many = [f"{found[kind]} {words[found[kind] > 1]}" for kind, words in _WORDS.items() if kind in found]
    return f"left out of {root}: {', '.join(many)}" if many else None


def unread_formats(root: Path) -> list[Problem]:
    """One problem for all visible pictures below ``root`` in a format that is not read; with their count."""
    places = folders_below(root) if root.is_dir() else ()
    seen = sorted(
        p for place in places for p in place.iterdir() if p.is_file() and _kind(p, False) == "other"
    )
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
