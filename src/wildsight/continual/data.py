"""The continual task's data: how a source becomes a sequence of tasks, and a check beforehand.

`READERS` maps the name in a source (``mtil:/data/mtil``) to its reader. Nothing is ever downloaded, and
nothing here imports torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.continual import incremental
from wildsight.continual.tasks import TEMPLATE, Pair, TaskData, TaskSequence, clashes
from wildsight.datasets import formats, mtil
from wildsight.datasets.folders import class_folders, class_name, one_spelling, same_class, subfolders
from wildsight.datasets.lists import read_json
from wildsight.datasets.source import DataSource, read_named, write_pictures
from wildsight.datasets.source import world_folder as drawn_folder
from wildsight.errors import DataError, ImageError
from wildsight.files import sha256
from wildsight.images import list_images, load_image, natural_key
from wildsight.sources import Problem, parse_source

__all__ = [
    "READERS", "TABLE", "TaskData", "TaskSequence", "check", "check_source", "read", "read_source",
    "reordered", "thinned", "world_folder",
]  # fmt: skip

LEARNED, ALL = 6, 9
PROBES = ("fog", "glare")
"""Tasks of the world that are never part of its sequence: its guard set."""

TABLE = "tasks.json"
SPLITS = ("train", "test")


def read_folder(root: Path) -> TaskSequence:
    """``NAME/train|test/CLASS/*`` per task; ``tasks.json`` gives order, class names and templates.

    ``{"scenario": "task", "tasks": [{"name": ..., "classes": [...], "templates": [...]}]}``; ``folders`` may
    name the class folders where they differ from the class names. Without the file every folder with a
    ``train`` folder in it is a task, in natural order, and its class folders are the names.
    """
    entries, scenario = _table(root) if (root / TABLE).is_file() else (_found(root), "task")
    tasks = tuple(_task(root, entry) for entry in entries)
    protocol = {"tasks": [t.name for t in tasks], "split": "the folders train and test", "scenario": scenario}
    return TaskSequence(tasks, scenario, f"folder:{root.name}", protocol)


def _table(root: Path) -> tuple[list[dict[str, Any]], str]:
    value = read_json(root / TABLE)
    try:
        entries, scenario = list(value["tasks"]), str(value.get("scenario", "task"))
        names = [str(e["name"]) for e in entries]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"lists no tasks ({error})", where=root / TABLE, hint='write {"tasks": [{"name": ...}]}'
        ) from error
    for name in names:
        if not (root / name).is_dir():
            raise DataError(f"names task {name!r}, which has no folder", where=root / TABLE, hint="add it")
    return entries, scenario


def _found(root: Path) -> list[dict[str, Any]]:
    names = [p.name for p in subfolders(root) if (p / "train").is_dir()]
    if not names:
        raise DataError("holds no task", where=root, hint="use NAME/train/CLASS/* and NAME/test/CLASS/*")
    return [{"name": n} for n in sorted(names, key=natural_key)]


def _task(root: Path, entry: dict[str, Any]) -> TaskData:
    name = str(entry["name"])
    base = root / name
    named = [class_name(str(c)) for c in entry.get("classes") or ()]
    folders = [str(f) for f in entry.get("folders") or named or _classes(base / "train")]
    classes = tuple(named or [class_name(f.replace("_", " ")) for f in folders])
    if len(folders) != len(classes):
        raise DataError("names more folders than classes, or fewer", where=base, hint="give one of each")
    templates = tuple(str(t) for t in entry.get("templates") or [TEMPLATE])
    parts = [_rows(base / split, folders) for split in SPLITS]
    return TaskData(name, classes, templates, parts[0], parts[1], base)


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError("no such folder", where=folder, hint="put pictures in train/CLASS")
    return sorted((inner.name for _, inner in class_folders(folder)), key=natural_key)


def _rows(folder: Path, names: list[str]) -> tuple[Pair, ...]:
    """(file, position) of the pictures of each name's folder, in which blanks may be underscores."""
    found = {_spelled(inner.name): inner for _, inner in class_folders(folder)}
    found |= {inner.name: inner for inner in found.values()}
    rows: list[Pair] = []
    for label, name in enumerate(names):
        place = found.get(name) or found.get(_spelled(name))
        rows += [(file, label) for file in list_images(place)] if place else []
    return tuple(rows)


def _spelled(name: str) -> str:
    return same_class(name.replace("_", " "))


def _shared(path: Path, *, name: str) -> TaskSequence:
    """A CSV or a set of the hub: ``image``, ``label``, ``split``, and ``task`` where there are several."""
    table = formats.read_table(name, path).need("image", "label", "split")
    rows: dict[str, list[tuple[Path, str, str]]] = {}
    for row in table.rows:
        part = "train" if row.split == "train" else "test"
        task = row.values.get("task") or path.stem
        rows.setdefault(task, []).append((row.image, class_name(row.values["label"]), part))
    one_spelling((label, table.file) for many in rows.values() for _, label, _ in many)
    tasks = tuple(_listed(task, many, table.root) for task, many in rows.items())
    protocol = {"tasks": [t.name for t in tasks], "split": "the column split", "scenario": "task"}
    return TaskSequence(tasks, "task", f"{name}:{path.name}", protocol)


def _listed(name: str, rows: list[tuple[Path, str, str]], root: Path) -> TaskData:
    classes = tuple(sorted({label for _, label, _ in rows}, key=natural_key))
    parts = [tuple((i, classes.index(c)) for i, c, part in rows if part == split) for split in SPLITS]
    return TaskData(name, classes, (TEMPLATE,), parts[0], parts[1], root)


def _mtil(root: Path, *, order: int, whole: bool = True) -> TaskSequence:
    sets, protocol = mtil.read_mtil(root, order, whole)
    tasks = tuple(TaskData(s.name, s.classes, s.templates, s.train, s.test, s.root, s.recipe) for s in sets)
    return TaskSequence(tasks, "task", f"mtil order {order}", protocol)


READERS: dict[str, Callable[[Path], TaskSequence]] = {
    "folder": read_folder,
    **{name: partial(_shared, name=name) for name in formats.TABLES},
    "mtil": partial(_mtil, order=1),
    "mtil-order2": partial(_mtil, order=2),
    "mtil-part": partial(_mtil, order=1, whole=False),
    "mtil-part-order2": partial(_mtil, order=2, whole=False),
    **{f"cifar100-{steps}": partial(incremental.read_cifar100, steps=steps) for steps in (10, 20, 50)},
    **{f"tinyimagenet-{steps}": partial(incremental.read_tiny, steps=steps) for steps in (5, 10, 20)},
}


def read(name: str, path: str | Path) -> TaskSequence:
    """Index a sequence on disk.

    Raises:
        DataError: an unknown reader, a missing folder, or another layout.
    """
    return read_named(READERS, name, path)


def read_source(text: str | Path, *, guard: bool = False) -> TaskSequence:
    """The sequence behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.
        guard: of the world, the probe tasks in place of the learned ones.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    if guard and parse_source(text, READERS).path is None:
        return read("folder", world_folder(probes=True))
    return _SOURCE.read(text)


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
    settings = {"seed": seed, "size": size, "per_class": per_class}
    drawn = {**settings, "per_class": 4 if probes else per_class, "count": ALL if probes else count}
    from wildsight.world import WORLD_VERSION

    return drawn_folder(
        "guard" if probes else "tasks",
        WORLD_VERSION,
        {**settings, "count": count},
        lambda folder: _export(folder, drawn, probes),
    )


def _export(folder: Path, settings: dict[str, int], probes: bool) -> Path:
    from wildsight.world.sets import tasks

    made = tasks(**settings)
    chosen = [t for t in made if t.name in PROBES] if probes else made
    pictures = (
        (f"{task.name}/{split}/{task.class_names[label].replace(' ', '_')}/{number:05d}.png", pixels)
        for task in chosen
        for split, images, labels in (
            ("train", task.train_images, task.train_labels),
            ("test", task.test_images, task.test_labels),
        )
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True))
    )
    rows = [{"name": t.name, "classes": t.class_names, "templates": t.templates} for t in chosen]
    text = json.dumps({"tasks": rows}, indent=2) + "\n"
    return write_pictures(folder, pictures, lambda: {TABLE: text})


def check(sequence: TaskSequence) -> list[Problem]:
    """Every fault found: classes without pictures, prompts that repeat, unreadable files, shared pictures."""
    return [*_empty(sequence), *_repeated(sequence), *_unreadable(sequence), *_leaks(sequence)]


def _place(task: TaskData) -> Path:
    return task.root or Path(task.name)


def _empty(sequence: TaskSequence) -> Iterator[Problem]:
    for task in sequence.tasks:
        for part, rows in (("train", task.train), ("test", task.test)):
            present = {y for _, y in rows}
            for label, name in enumerate(task.classes):
                if label not in present:
                    what = f"class {name!r} of task {task.name!r} has no {part} picture"
                    yield Problem(_place(task), what, "add some, or take the class out")


def _repeated(sequence: TaskSequence) -> Iterator[Problem]:
    before: list[tuple[str, str, list[str]]] = []
    for task in sequence.tasks:
        for name, earlier in clashes(task, before):
            what = f"class {name!r} of task {task.name!r} is also taught by task {earlier!r}"
            yield Problem(_place(task), what, "give it another name or template")
        before += [(task.name, c, [p]) for c, p in zip(task.classes, task.prompts(), strict=True)]


def _files(sequence: TaskSequence) -> Iterator[tuple[Path, str, str]]:
    for task in sequence.tasks:
        for part, rows in (("train", task.train), ("test", task.test)):
            yield from ((p, task.name, part) for p, _ in rows if isinstance(p, Path))


def _unreadable(sequence: TaskSequence) -> Iterator[Problem]:
    for file, _, _ in _files(sequence):
        try:
            load_image(file)
        except ImageError as error:
            yield Problem(file, error.what, error.hint or "restore it")


def _leaks(sequence: TaskSequence) -> Iterator[Problem]:
    first: dict[str, tuple[Path, str, str]] = {}
    for file, task, part in _files(sequence):
        if not file.is_file():
            continue
        twin = first.setdefault(sha256(file), (file, task, part))
        if twin[0] != file and twin[2] != part:
            what = f"the same picture as {twin[0].name} in {twin[2]} of task {twin[1]!r}"
            yield Problem(file, what, "keep it in one part")


def thinned(sequence: TaskSequence, train: int | None, test: int | None, seed: int = 0) -> TaskSequence:
    """At most ``train`` and ``test`` pictures per class, drawn by ``seed``; None keeps all.

    The protocol tells how many there are, and how many were asked for where a class holds fewer.
    """

    def some(rows: tuple[Pair, ...], count: int | None, key: int) -> tuple[Pair, ...]:
        if count is None:
            return rows
        order = np.random.default_rng([seed, key]).permutation(len(rows))
        taken: dict[int, int] = {}
        kept = []
        for i in order.tolist():
            label = rows[i][1]
            if taken.get(label, 0) < count:
                taken[label] = taken.get(label, 0) + 1
                kept.append(i)
        return tuple(rows[i] for i in sorted(kept))

    tasks = tuple(
        replace(t, train=some(t.train, train, 2 * n), test=some(t.test, test, 2 * n + 1))
        for n, t in enumerate(sequence.tasks)
    )
    held = (_held(tasks, "train", train), _held(tasks, "test", test))
    protocol = {**sequence.protocol, "pictures per class": f"train {held[0]}, test {held[1]}"}
    return replace(sequence, tasks=tasks, protocol=protocol)


def _held(tasks: Sequence[TaskData], part: str, asked: int | None) -> str:
    """Pictures per class over all tasks, and how many were asked for where that is more."""
    found = [Counter(y for _, y in getattr(t, part)) for t in tasks]
    counts = [rows[label] for rows, t in zip(found, tasks, strict=True) for label in range(len(t.classes))]
    low, high = min(counts), max(counts)
    text = str(low) if low == high else f"{low} to {high}"
    return text if asked is None or low >= asked else f"{text} ({asked} asked for, no more are there)"


def reordered(sequence: TaskSequence, order: int) -> TaskSequence:
    """Order 1 is the source's own; order n > 1 a fixed permutation of rows and columns, drawn from n.

    Order 2 of the MTIL benchmark is another one: that of the source ``mtil-order2``.
    """
    if order == 1:
        return sequence
    permutation = np.random.default_rng(order).permutation(len(sequence))
    tasks = tuple(sequence.tasks[int(i)] for i in permutation)
    return replace(sequence, tasks=tasks, protocol={**sequence.protocol, "order": [t.name for t in tasks]})


_SOURCE = DataSource(
    READERS,
    lambda: read("folder", world_folder()),
    check,
    files=lambda s: [f for f, _, _ in _files(s)],
)
check_source = _SOURCE.problems
"""Every problem found in a source, before anything is learned; imports no torch."""
