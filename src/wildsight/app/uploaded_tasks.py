"""Uploaded pictures as tasks of the continual learner: from names or a zip, some held out for the test."""

from __future__ import annotations

import shutil
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from wildsight.continual.data import TABLE
from wildsight.continual.tasks import TEMPLATE, TaskData
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError
from wildsight.files import atomic_folder, write_json

FILES, BYTES = 2000, 512 * 2**20
HELD_OUT = 3  # every third picture of a class is kept for the test


def new_task(name: str, files: list[Path], folder: Path) -> TaskData:
    """A task from uploads.

    Args:
        name: of the task; letters, digits, spaces and -_ are kept.
        files: pictures named CLASS_anything.png, or one zip with pictures in folders named by class.
        folder: an empty one, for what is unpacked.

    Raises:
        DataError: no name, a damaged or oversized zip, one class alone, or a class with one picture.
    """
    clean = "".join(c for c in (name or "") if c.isalnum() or c in " -_").strip()
    if not clean:
        raise DataError("the task has no name", hint="type one")
    zipped = len(files) == 1 and files[0].suffix.lower() == ".zip"
    rows = _unpacked(files[0], folder) if zipped else [(f, _class_of(f.stem)) for f in files]
    groups: dict[str, list[Path]] = defaultdict(list)
    for file, label in rows:
        groups[label].append(file)
    if len(groups) < 2:
        raise DataError(
            "a task needs two classes", hint="name files CLASS_anything.png, or zip CLASS/* folders"
        )
    alone = next((c for c, own in groups.items() if len(own) < 2), None)
    if alone is not None:
        raise DataError(
            f"class {alone!r} has one picture", hint="give two at least: one is held out for the test"
        )
    return _split(clean, dict(sorted(groups.items())))


def _class_of(text: str) -> str:
    """The class that a file's name tells.

    >>> _class_of("open-valve_001")
    'open valve'
    """
    return text.split("_")[0].replace("-", " ").strip() or text


def _split(name: str, groups: dict[str, list[Path]]) -> TaskData:
    parts: dict[bool, list[tuple[Path, int]]] = {True: [], False: []}
    for label, own in enumerate(groups.values()):
        for number, file in enumerate(own):
            held = number % HELD_OUT == HELD_OUT - 1 or (len(own) < HELD_OUT and number == len(own) - 1)
            parts[held].append((file, label))
    return TaskData(name, tuple(groups), (TEMPLATE,), tuple(parts[False]), tuple(parts[True]))


def _unpacked(file: Path, folder: Path) -> list[tuple[Path, str]]:
    """Pictures of a zip and the folder each lay in; nothing is written outside ``folder``."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir() and not _hidden(e.filename)]
            if len(entries) > FILES or sum(e.file_size for e in entries) > BYTES:
                limit = f"{FILES} files or {BYTES // 2**20} MB"
                raise DataError(f"unpacks to more than {limit}", where=file.name, hint="give fewer pictures")
            return [_entry(archive, e, folder / f"{n:05d}") for n, e in enumerate(entries)]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise DataError(
            f"is no zip that can be read ({error})", where=file.name, hint="zip it again"
        ) from error


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stem: Path) -> tuple[Path, str]:
    inner = PurePosixPath(entry.filename)
    target = stem.with_suffix(inner.suffix.lower())
    with archive.open(entry) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    return target, inner.parent.name.replace("_", " ") or _class_of(inner.stem)


def zip_task(task: TaskData, folder: Path) -> Path:
    """A task as the zip that `new_task` reads."""
    target = folder / f"{task.name}.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for number, (file, label) in enumerate((*task.train, *task.test)):
            archive.write(str(file), f"{task.classes[label]}/{number:05d}{Path(str(file)).suffix}")
    return target


def put_tasks(root: Path, tasks: list[TaskData]) -> None:
    """Keep tasks in the plain layout that the task reads, after those that are there."""
    rows: list[dict[str, Any]] = list(read_json(root / TABLE)["tasks"]) if (root / TABLE).is_file() else []
    for task in tasks:
        with atomic_folder(root / task.name) as temporary:
            for split, pairs in (("train", task.train), ("test", task.test)):
                for number, (file, label) in enumerate(pairs):
                    place = temporary / split / f"{label:03d}"
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(Path(str(file)), place / f"{number:05d}{Path(str(file)).suffix.lower()}")
        folders = [f"{n:03d}" for n in range(len(task.classes))]
        entry = {"name": task.name, "classes": list(task.classes), "folders": folders}
        rows.append(entry | {"templates": list(task.templates)})
    write_json(root / TABLE, {"tasks": rows})
