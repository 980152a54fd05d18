"""Folders from groups: a plan that can be read and edited, carried out only when asked, and always undone.

A run's ``results.csv`` has one row per picture and its ``groups.csv`` one row per group; the ``name`` in
either may be edited before the plan is applied. Nothing is ever overwritten: the target folder has to be
empty, every file is placed by an operation that fails where a file is, and what will be done is on disk in
``undo.json`` before the first picture is touched.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildsight.datasets.lists import read_table
from wildsight.errors import ConfigError, DataError
from wildsight.files import explained, read_json, write_json

UNDO = "undo.json"
PART = ".part"
KINDS = ("known", "new", "doubtful")
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EACCES}


@dataclass(frozen=True)
class Action:
    """One picture's way.

    Attributes:
        source: where it is.
        target: where it goes.
        move: True to move it, False to copy it.
    """

    source: Path
    target: Path
    move: bool


def safe_name(name: str) -> str:
    """A group's name as the name of a folder.

    Raises:
        ConfigError: empty, hidden, or with a separator in it.

    >>> safe_name("red fox")
    'red fox'
    """
    clean = name.strip()
    if not clean or clean.startswith(".") or any(c in clean for c in "/\\:\0") or clean != Path(clean).name:
        raise ConfigError(f"{name!r} cannot name a folder", hint="use a plain name without separators")
    return clean


def folder_of(row: Mapping[str, str], renamed: Mapping[str, str], known: Iterable[str]) -> str:
    """``known/NAME``, ``new/NAME`` or ``doubtful/NAME`` for a row of ``results.csv``.

    Args:
        row: the row; its own ``name`` wins where it was edited.
        renamed: group number -> name of ``groups.csv``.
        known: names of the known classes; a new group given such a name joins it.
    """
    given = row["name"] if row["name"] != row.get("group_name", row["name"]) else None
    name = safe_name(given or renamed.get(row["group"], row["name"]))
    if row.get("doubtful") == "yes" and given is None:
        return f"doubtful/{name}"
    return f"known/{name}" if name in set(known) else f"new/{name}"


def make_plan(
    rows: Sequence[Mapping[str, str]],
    renamed: Mapping[str, str],
    known: Sequence[str],
    *,
    root: Path,
    to: Path,
    move: bool = False,
) -> list[Action]:
    """Where every picture goes.

    Two pictures of one name in one folder keep apart by a number (``a.jpg``, ``a~2.jpg``), case ignored. A
    symbolic link is never moved: the picture that it leads to is copied.

    Args:
        rows: of ``results.csv``.
        renamed: group number -> name.
        known: names of the known classes.
        root: the folder that paths in ``rows`` are relative to.
        to: the target folder.
        move: move instead of copying.
    """
    taken: set[str] = set()
    plan = []
    for row in rows:
        source = root / row["path"]
        target = to / folder_of(row, renamed, known) / source.name
        number = 1
        while str(target).casefold() in taken:
            number += 1
            target = target.with_name(f"{source.stem}~{number}{source.suffix}")
        taken.add(str(target).casefold())
        plan.append(Action(source, target, move and not source.is_symlink()))
    return plan


def plan_of_run(run: Path, to: Path, *, move: bool = False) -> list[Action]:
    """The plan of a run folder that `wildsight discovery sort` wrote, edits of its two tables included.

    Raises:
        DataError: the folder or its tables are missing or damaged.
        ConfigError: a name that cannot be a folder.
    """
    scores = read_json(run / "scores.json")
    try:
        root, known = Path(scores["root"]), scores["known"]
        rows = _rows(run / "results.csv", ("path", "group", "name"))
        groups = _rows(run / "groups.csv", ("group", "name"))
    except (KeyError, TypeError) as error:
        raise DataError("is no run of `wildsight discovery sort`", where=run, hint="run it first") from error
    renamed = {g["group"]: g["name"] for g in groups}
    return make_plan(rows, renamed, known, root=root, to=to, move=move)


def edited(run: Path) -> list[str]:
    """The tables of an earlier sort in ``run`` whose names were edited; empty where there is none.

    Raises:
        DataError: a table or ``scores.json`` is damaged.
    """
    found = []
    if (run / "results.csv").is_file():
        rows = _rows(run / "results.csv", ("name",))
        if any(row["name"] != row.get("group_name", row["name"]) for row in rows):
            found.append("results.csv")
    if (run / "groups.csv").is_file() and (run / "scores.json").is_file():
        rows, scores = _rows(run / "groups.csv", ("group", "name")), read_json(run / "scores.json")
        given = {str(g["group"]): str(g["name"]).strip() for g in scores.get("groups", ())}
        if any(row["name"] != given.get(row["group"], row["name"]) for row in rows):
            found.append("groups.csv")
    return found


def check_unedited(run: Path) -> None:
    """Refuse to write over tables that somebody has worked on.

    Raises:
        ConfigError: names in them were edited. DataError: a table is damaged.
    """
    changed = edited(run)
    if changed:
        what = f"holds names that you edited in {' and '.join(changed)}"
        raise ConfigError(what, where=run, hint="apply them first, name another --out, or add --again")


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that a person may have edited; file names keep their blanks."""
    rows = read_table(file, columns)
    for row in rows:
        missing = [c for c in columns if c != "name" and not row[c]]
        if missing:
            raise DataError(f"line {row.number} has no {missing[0]}", where=file, hint="fill it in")
    return [row.values | {c: row.written[c] for c in ("path",) if c in row.written} for row in rows]


def apply_plan(plan: Sequence[Action], to: Path, *, progress: Callable[[int], object] | None = None) -> Path:
    """Carry out a plan.

    Args:
        plan: what to do.
        to: the target folder; absent or empty.
        progress: called with 1 after each picture.

    Returns:
        The undo file.

    Raises:
        DataError: the target folder is not empty or lies among the pictures, a picture is gone, or the disk
            is full; what was done until then is undone by `undo`.
    """
    _ready(plan, to)
    undo_file = to / UNDO
    record = [{"from": str(a.source.absolute()), "to": str(a.target), "move": a.move} for a in plan]
    write_json(undo_file, {"format": 1, "actions": [{**r, "to": _below(r["to"], to)} for r in record]})
    for action in plan:
        with explained(action.target):
            action.target.parent.mkdir(parents=True, exist_ok=True)
            _carry_out(action)
        if progress:
            progress(1)
    return undo_file


def _below(path: object, to: Path) -> str:
    return Path(str(path)).relative_to(to).as_posix()


def _ready(plan: Sequence[Action], to: Path) -> None:
    """Refuse before anything is touched."""
    for action in plan:
        if not action.source.is_file():
            raise DataError("no such file", where=action.source, hint="run the sort again")
    check_target(to, [a.source for a in plan])


def check_target(to: Path, pictures: Iterable[Path]) -> None:
    """Refuse a target folder that is not empty or lies among the pictures.

    Raises:
        DataError: it is or does.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise DataError("is not empty", where=to, hint="name a new folder, or undo what is in it")
    for folder in {p.parent.resolve() for p in pictures}:
        if to.resolve().is_relative_to(folder):
            raise DataError(f"lies among the pictures of {folder}", where=to, hint="name another folder")


def _carry_out(action: Action) -> None:
    if action.move and _linked(action.source, action.target):
        action.source.unlink()
        return
    part = action.target.with_name(f".{action.target.name}{PART}")
    try:
        shutil.copy2(action.source, part)
        if not _linked(part, action.target):
            if action.target.exists():
                raise FileExistsError(errno.EEXIST, "a file is there", str(action.target))
            part.rename(action.target)
    finally:
        part.unlink(missing_ok=True)
    if action.move:
        action.source.unlink()


def _linked(source: Path, target: Path) -> bool:
    """A hard link, which fails where a file is; False where the file system has none."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


@dataclass(frozen=True)
class Undone:
    """What an undo did.

    Attributes:
        count: pictures put back, or copies removed.
        kept: (file, reason) of what was left as it is.
    """

    count: int
    kept: list[tuple[Path, str]]


def undo(folder: Path) -> Undone:
    """Take back what `apply_plan` did, also one that was interrupted.

    A moved picture goes back where it was, unless another file is there now; a copy is removed, unless it
    was changed since or is the last one there is. Folders left empty are removed.

    Args:
        folder: the target folder, or its ``undo.json``.

    Raises:
        DataError: no undo file, or a damaged one.
    """
    file = folder / UNDO if folder.is_dir() else folder
    record = read_json(file)
    count, kept = 0, []
    try:
        actions = [Action(Path(a["from"]), file.parent / a["to"], bool(a["move"])) for a in record["actions"]]
    except (KeyError, TypeError) as error:
        raise DataError("is no undo file", where=file, hint="name the sorted folder") from error
    for action in reversed(actions):
        with explained(action.source):
            reason = _take_back(action)
        if reason:
            kept.append((action.target, reason))
        count += reason is None
    if not kept:
        file.unlink()
    _remove_empty({a.target.parent for a in actions}, file.parent)
    return Undone(count, kept)


def _take_back(action: Action) -> str | None:
    """None when nothing of the action is left, or why it was kept."""
    action.target.with_name(f".{action.target.name}{PART}").unlink(missing_ok=True)
    if not action.target.exists():
        return None if action.source.exists() else "neither the picture nor its original is there"
    if action.move:
        return _move_back(action)
    if not action.source.exists():
        return "its original is gone, this is the last copy"
    one, other = action.source.stat(), action.target.stat()
    if (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns):
        return "it was changed since"
    action.target.unlink()
    return None


def _move_back(action: Action) -> str | None:
    if action.source.exists():
        if not action.source.samefile(action.target):
            return f"another file is at {action.source}"
        action.target.unlink()  # interrupted between the link and the removal
        return None
    action.source.parent.mkdir(parents=True, exist_ok=True)
    _carry_out(Action(action.target, action.source, True))
    return None


def _remove_empty(folders: set[Path], root: Path) -> None:
    """Remove the plan's folders, their parents and the root where nothing is left in them."""
    chain = {p for f in folders for p in (f, *f.parents) if p == root or root in p.parents}
    for folder in sorted(chain, key=lambda p: -len(p.parts)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def duplicates(files: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs (file, the first file with the same bytes); only files of equal size are read."""
    from wildsight.files import sha256

    by_size: dict[int, list[Path]] = {}
    for file in files:
        if file.is_file():
            by_size.setdefault(file.stat().st_size, []).append(file)
    first: dict[Any, Path] = {}
    found = []
    for group in by_size.values():
        for file in group if len(group) > 1 else ():
            twin = first.setdefault(sha256(file), file)
            if twin is not file:
                found.append((file, twin))
    return sorted(found)
