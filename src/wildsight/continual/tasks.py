"""One task, a sequence of tasks, and the faults that are named before anything is learned. No torch here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from PIL.Image import Image

from wildsight.datasets.folders import same_class
from wildsight.errors import DataError
from wildsight.files import digest_of, sha256

TEMPLATE = "a photo of a {}"
Picture = Path | Image
Pair = tuple[Picture, int]


@dataclass(frozen=True)
class TaskData:
    """Pictures, class names and templates of one task.

    Attributes:
        name: of the task.
        classes: names, unique.
        templates: each with ``{}`` for the class name; the first trains, the mean of all tests.
        train: (file or picture, position in ``classes``).
        test: the same, never trained on.
        root: where it came from; None in memory.
        recipe: fields of `TrainConfig` that the task's benchmark publishes for a full-size CLIP.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    train: tuple[Pair, ...]
    test: tuple[Pair, ...] = ()
    root: Path | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._check_names()
        wrong = [y for _, y in (*self.train, *self.test) if not 0 <= y < len(self.classes)]
        if wrong:
            raise DataError(f"label {wrong[0]} is none of {len(self.classes)} classes", where=self.name)

    def _check_names(self) -> None:
        if not self.classes or any(not c.strip() for c in self.classes):
            raise DataError("a task without class names", where=self.name, hint="name every class")
        counts = Counter(map(same_class, self.classes))
        twice = [name for name in self.classes if counts[same_class(name)] > 1]
        if twice:
            raise DataError(f"names class {twice[0]!r} twice", where=self.name, hint="make them one class")
        if not self.templates or any("{}" not in t for t in self.templates):
            raise DataError("a template without {}", where=self.name, hint=f"write e.g. '{TEMPLATE}'")

    @classmethod
    def of(
        cls,
        name: str,
        files: Sequence[str | Path | Image],
        labels: Sequence[int] | Sequence[str],
        classes: Sequence[str] | None = None,
        templates: Sequence[str] = (TEMPLATE,),
        *,
        test: tuple[Sequence[str | Path | Image], Sequence[int] | Sequence[str]] = ((), ()),
    ) -> Self:
        """A task from lists in memory.

        Args:
            name: of the task.
            files: pictures, as files or PIL pictures.
            labels: one per picture: positions in ``classes``, or the names themselves.
            classes: class names; by default the names among ``labels``, sorted.
            templates: see the class.
            test: pictures and labels held out.

        Raises:
            DataError: lengths differ, an unknown label, or a class without picture.

        >>> TaskData.of("t", ["a.png", "b.png"], ["dent", "scratch"]).classes
        ('dent', 'scratch')
        """
        if len(files) != len(labels):
            raise DataError(f"{len(files)} pictures but {len(labels)} labels", where=name)
        if classes is None:
            classes = sorted({c for c in labels if isinstance(c, str)})
        made = cls(
            name,
            tuple(classes),
            tuple(templates),
            _pairs(files, labels, classes, name),
            _pairs(*test, classes, name),
        )
        made.require()
        return made

    def require(self) -> None:
        """Refuse a class without a training picture.

        Raises:
            DataError: it is named.
        """
        counts = Counter(y for _, y in self.train)
        for index, name in enumerate(self.classes):
            if not counts[index]:
                raise DataError(
                    f"class {name!r} has no training picture", where=self.root or self.name, hint="add some"
                )

    def prompts(self) -> list[str]:
        """What training reads: the first template with each class."""
        return [self.templates[0].format(c) for c in self.classes]

    def digest(self) -> str:
        """Names, templates, labels, and names and sizes of the training files: what they are called, for the
        key of a bench's cell, quick even for a large set."""
        rows = [[_key(p), y] for p, y in self.train]
        return digest_of([self.name, self.classes, self.templates, rows])

    def fingerprint(self) -> str:
        """Names, templates, labels and the training pictures' content, wherever they lie: for resuming."""
        rows = [[content(p), y] for p, y in self.train]
        return digest_of([self.name, self.classes, self.templates, rows])


def _pairs(
    files: Sequence[str | Path | Image], labels: Sequence[Any], classes: Sequence[str], name: str
) -> tuple[Pair, ...]:
    index = {c: i for i, c in enumerate(classes)}
    rows: list[Pair] = []
    for file, label in zip(files, labels, strict=True):
        if isinstance(label, str) and label not in index:
            raise DataError(f"label {label!r} is no class", where=name, hint="add it to the class names")
        where = index[label] if isinstance(label, str) else int(label)
        rows.append((Path(file) if isinstance(file, str) else file, where))
    return tuple(rows)


def _key(picture: Picture) -> str:
    """What identifies a picture without decoding it."""
    if isinstance(picture, Path):
        status = picture.stat() if picture.is_file() else None
        return f"{picture.name}:{status.st_size if status else None}"
    return digest_of([picture.mode, picture.size, hashlib.sha256(picture.tobytes()).hexdigest()])


@dataclass(frozen=True)
class TaskSequence:
    """Tasks in the order of learning.

    Attributes:
        tasks: in order, names unique.
        scenario: ``task`` (each task is tested among its own classes) or ``class`` (among all seen).
        name: of the source, and ``protocol``: split, order and assumptions, printed with every score.
    """

    tasks: tuple[TaskData, ...]
    scenario: str = "task"
    name: str = "tasks"
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise DataError("no task", where=self.name, hint="give at least one")
        twice = [n for n, c in Counter(t.name for t in self.tasks).items() if c > 1]
        if twice:
            raise DataError(f"two tasks are called {twice[0]!r}", where=self.name, hint="rename one")

    def __len__(self) -> int:
        return len(self.tasks)


Known = tuple[str, str, Sequence[str]]
"""A class that was learned: (task, class, its prompts, the one that training read first)."""


def clashes(task: TaskData, learned: Sequence[Known]) -> list[tuple[str, str]]:
    """(class, earlier task) pairs that the prompts of ``task`` cannot tell apart.

    Args:
        task: the new one.
        learned: what was learned.
    """
    before = {same_class(prompts[0]): name for name, _, prompts in learned if prompts}
    keys = [same_class(prompt) for prompt in task.prompts()]
    return [(c, before[key]) for c, key in zip(task.classes, keys, strict=True) if key in before]


def known(learned: Sequence[Mapping[str, Any]]) -> list[Known]:
    """The classes of learned tasks, from entries with ``name``, ``classes`` and ``templates``."""
    return [(t["name"], c, [p.format(c) for p in t["templates"]]) for t in learned for c in t["classes"]]


def distinct(tasks: Sequence[TaskData], learned: Sequence[Known] = ()) -> None:
    """Refuse a task with prompts of an earlier one.

    Args:
        tasks: in the order of learning.
        learned: what was learned before them.

    Raises:
        DataError: the class and both tasks are named.
    """
    before = list(learned)
    for task in tasks:
        for name, earlier in clashes(task, before):
            raise DataError(
                f"class {name!r} of task {task.name!r} was taught by task {earlier!r}",
                where=task.root or task.name,
                hint="use another name or template, or allow it with repeat (--repeat) to teach it again",
            )
        before += known([{"name": task.name, "classes": task.classes, "templates": task.templates}])


def tested(tasks: Sequence[TaskData]) -> None:
    """Refuse a task without test pictures.

    Raises:
        DataError: it is named.
    """
    for task in tasks:
        if not task.test:
            raise DataError("has no test picture", where=task.root or task.name, hint="add test/<class>/*")


def content(picture: Picture) -> str:
    """SHA-256 of a picture: its file's bytes, or its pixels."""
    if not isinstance(picture, Path):
        return _key(picture)
    if not picture.is_file():
        return str(picture)
    status = picture.stat()
    return _hashed((picture.resolve(), status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1 << 17)
def _hashed(state: tuple[Path, int, int]) -> str:
    """SHA-256 of a file, computed again only when its size or time of change, the others of ``state``,
    differ."""
    return sha256(state[0])
