"""The folder of a prediction, written while results come, in the same words in every task."""

from __future__ import annotations

import bisect
import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from wildsight.estimators.registry import unknown_name
from wildsight.estimators.reporting import begin_report, close_report
from wildsight.estimators.rows import RowWriter
from wildsight.files import as_json, atomic_path, check_writable, explained, short_name
from wildsight.images import carried, load_image, no_larger, save_png
from wildsight.results import Result, RunFolder, environment

if TYPE_CHECKING:
    from PIL.Image import Image

    from wildsight.estimators.streaming import FileAnswer
    from wildsight.report import Report

OVERLAYS = ("fit", "full", "none")
FIT = 1600
"""Longer side of an overlay at most, pixels, where it is not asked for in full."""
SMALL = 640
"""Longer side of a picture that is kept for a report."""
WIDE, HIGH = 1280, 480
"""Size of a picture in a report at most, pixels."""
BEHIND = 4
"""Results that wait at most for the thread that draws."""
R = TypeVar("R", bound=Result)


class Gallery:
    """The pictures of a report: those of lowest rank, made small; of equal ranks the first.

    >>> from PIL import Image
    >>> gallery = Gallery(2)
    >>> for rank in (3, 1, 2):
    ...     gallery.add(rank, Image.new("RGB", (8, 8)), str(rank))
    >>> [caption for _, caption in gallery.pictures()]
    ['1', '2']
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.kept: list[tuple[float, int, Image, str]] = []
        self.seen = 0

    def wants(self, rank: float) -> bool:
        """Whether a picture of this rank would be kept."""
        return len(self.kept) < self.most or rank < self.kept[-1][0]

    def add(self, rank: float, picture: Image, caption: str) -> None:
        """Keep a picture, unless there are enough of lower rank."""
        self.seen += 1
        if self.wants(rank):
            scale = min(1.0, WIDE / picture.width, HIGH / picture.height)
            small = no_larger(picture, round(max(picture.size) * scale))
            bisect.insort(self.kept, (rank, self.seen, small, caption), key=lambda k: k[:2])
            del self.kept[self.most :]

    def pictures(self) -> list[tuple[Image, str]]:
        """Pictures with captions, the lowest rank first."""
        return [(picture, caption) for _, _, picture, caption in self.kept]


class Predictions(ABC, Generic[R]):
    """The folder of a prediction; a context manager.

    The rows of ``results.csv`` are on disk as soon as a result is added, what a task draws is written by a
    thread behind, and `finish` adds ``scores.json`` and ``report.html``. What is held does not grow with the
    number of results.

    Args:
        out: the folder.
        overlay: ``fit`` (at most 1600 pixels), ``full`` or ``none``, where the task draws over pictures.
        notes: what a reader of the report must know first.

    Raises:
        ConfigError: an unknown ``overlay``.
    """

    title: ClassVar[str]
    caption: ClassVar[str]
    """Stands above the pictures of the report."""
    entries: ClassVar[str] = "pictures"
    """What ``scores.json`` calls its list of results."""
    listed: ClassVar[bool] = True
    """Whether ``scores.json`` lists the results."""
    shown: ClassVar[int] = 48
    """Pictures in the report at most."""

    def __init__(self, out: str | Path, *, overlay: str = "fit", notes: Sequence[str] = ()) -> None:
        if overlay not in OVERLAYS:
            raise unknown_name("overlay", overlay, OVERLAYS)
        self.out, self.overlay, self.notes = Path(out), overlay, list(notes)
        self.folder = RunFolder(self.out)
        self.count = self.alarms = 0
        self.errors: list[str] = []
        self.gallery = Gallery(self.shown)

    # -- what a task says of its results --------------------------------------------------------------------

    def rows(self, result: R) -> list[Mapping[str, Any]]:
        """The rows of ``results.csv``."""
        return [result.to_dict()]

    def entry(self, result: R) -> dict[str, Any]:
        """What ``scores.json`` holds."""
        return result.to_dict()

    @abstractmethod
    def draw(self, number: int, result: R, picture: Image | None) -> None:
        """Write what belongs to a result, and keep what the report may show; called in a thread.

        Args:
            number: of the result, from 0.
            result: what was found.
            picture: as `side` asked for it; None where the caller has none.
        """

    @property
    def side(self) -> int | None:
        """How large a picture `draw` needs, as `Estimator.iter_files` takes it."""
        return SMALL

    def subtitle(self) -> str:
        """Stands under the title of the report."""
        return f"{self.count} {self.entries}"

    def warnings(self) -> list[str]:
        """What a reader must know of these results; nothing here."""
        return []

    def facts(self) -> dict[str, Any]:
        """What else ``scores.json`` holds; nothing here."""
        return {}

    def show(self, report: Report) -> None:
        """Add pictures and tables to the report."""
        if self.gallery.kept:
            report.gallery(self.gallery.pictures(), self.caption)

    # -- writing --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        check_writable(self.folder.report)
        self._pool, self._waiting = ThreadPoolExecutor(1), deque[Future[None]]()
        self._table: RowWriter | None = None
        self._listed = _Listed(self.out)
        return self

    def _begun(self) -> RowWriter:
        """The table; an earlier run's files go when it is made: a run that is refused loses nothing."""
        if self._table is None:
            with explained(self.out):
                for old in (self.folder.report, self.folder.scores):
                    old.unlink(missing_ok=True)
            self._table = RowWriter(self.folder.results)
        return self._table

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._listed.close()
        if self._table is not None:
            self._table.close()

    def add(self, result: R, picture: Image | None = None) -> None:
        """Write a result.

        Raises:
            DataError: the folder cannot be written, by this result or by one before it.
        """
        table = self._begun()
        for row in self.rows(result):
            table.add(row)
        if self.listed:
            self._listed.add(self.entry(result))
        while len(self._waiting) >= BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(carried(self.draw), self.count, result, picture))
        self.count += 1
        self.alarms += bool(getattr(result, "alarm", False))

    def take(self, answer: FileAnswer[R]) -> None:
        """Write the results of a file, or why there are none."""
        for result in answer.results:
            self.add(result, answer.picture)
        if answer.error is not None:
            self._begun().add_unread(answer.error)
            self.errors.append(str(answer.error))

    def finish(self) -> Path:
        """Write ``scores.json`` and the report, which is returned.

        Raises:
            DataError: the folder cannot be written.
        """
        self._begun()
        while self._waiting:
            self._waiting.popleft().result()
        more = {**self.facts(), "not_read": self.errors, "environment": environment()}
        if self.listed:
            self._listed.write(self.folder.scores, self.entries, more)
        else:
            self.folder.write_scores(more)
        notes = [*self.notes, *self.warnings()]
        report = begin_report(self.title, self.subtitle(), self.errors, notes)
        self.show(report)
        return close_report(report, self.folder)

    def save(self, folder: str, name: str, picture: Image) -> None:
        """Write a picture as ``folder/name.png``."""
        save_png(picture, self.out / folder / f"{name}.png")

    def picture_of(self, file: Path | None, picture: Image | None) -> Image | None:
        """The picture, read again where the caller has none."""
        if picture is None and file is not None:
            return no_larger(load_image(file), self.side or None)
        return picture


def numbered(number: int, file: Path | None) -> str:
    """The name of what belongs to a result; a long one is shortened.

    >>> numbered(3, Path("a/b.jpg"))
    '00003-b'
    """
    return short_name(f"{number:05d}-{file.stem if file else 'picture'}")


def write_all(folder: Predictions[R], results: Iterable[R], errors: Iterable[str]) -> Path:
    """The folder of results that are there already; returns its report.

    Raises:
        DataError: the folder cannot be written.
    """
    with folder:
        for result in results:
            folder.add(result)
        folder.errors += errors
        return folder.finish()


class _Listed:
    """JSON entries, kept in a file that has no name until all of them are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with explained(folder):
            self.stream = tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8")  # noqa: SIM115  see close
        self.between = "\n"
        self.close: Callable[[], None] = self.stream.close

    def add(self, entry: Mapping[str, Any]) -> None:
        with explained(self.folder):
            self.stream.write(f"{self.between}    {as_json(entry, indent=None)}")
        self.between = ",\n"

    def write(self, path: Path, name: str, more: Mapping[str, Any]) -> None:
        """``{name: [entries], **more}``."""
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as whole:
            whole.write(f"{{\n  {json.dumps(name)}: [")
            self.stream.seek(0)
            shutil.copyfileobj(self.stream, whole)
            whole.write(f"\n  ],\n{as_json(more)[2:]}\n")
