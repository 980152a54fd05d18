"""Many files through a model in constant memory: read ahead by threads, answered in batches, one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wildsight.devices import Halving
from wildsight.errors import ConfigError, WildSightError
from wildsight.images import carried, no_larger

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 16
WORKERS = 2
"""Threads that read ahead of the model."""
HELD = 1 << 28
"""Bytes of pixels that close a batch before it is full, and that reading ahead stops at."""
I = TypeVar("I")  # noqa: E741
P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class FileAnswer(Generic[R]):
    """What became of one file of many.

    Attributes:
        file: as it was given.
        results: usually one; none where it could not be used.
        error: why it could not be used.
        picture: as it was read, made smaller where it was asked for so; None where it was not asked for.
    """

    file: Any
    results: tuple[R, ...] = ()
    error: WildSightError | None = None
    picture: Image | None = None

    @property
    def result(self) -> R:
        """The one result.

        Raises:
            WildSightError: the file could not be used.
        """
        if self.error is not None:
            raise self.error
        return self.results[0]


@dataclass(frozen=True)
class Ready(Generic[P]):
    """What was read of one file.

    Attributes:
        item: what the model takes.
        held: bytes of pixels that are kept until it is answered.
        picture: to be handed out with the answer.
    """

    item: P
    held: int = 0
    picture: Image | None = None


def shown_of(picture: Image, side: int | None) -> Image | None:
    """The picture that an answer hands out; see `Estimator.iter_files`."""
    return None if side == 0 else no_larger(picture, side)


def bytes_of(*items: Any) -> int:
    """How much memory pictures and arrays take; nothing else counts."""
    return sum(getattr(i, "nbytes", 0) or 3 * getattr(i, "width", 0) * getattr(i, "height", 0) for i in items)


Outcome = Sequence[R] | WildSightError


@dataclass(frozen=True)
class Stream(Generic[I, P, R]):
    """How files are read and answered.

    Attributes:
        read: what the model takes of an item; called in threads where there are ``workers``.
        answer: the results of each of a batch, or why there are none.
        batch_size: items at a time.
        workers: threads that read ahead; with 0 each item is read when its turn comes.
        progress: called with the number of items just done.
    """

    read: Callable[[I], Ready[P]]
    answer: Callable[[Sequence[P]], Iterable[Outcome[R]]]
    batch_size: int | None = None
    workers: int | None = None
    progress: Callable[[int], Any] | None = None

    def run(self, items: Sequence[I], files: Sequence[Any] | None = None) -> Iterator[FileAnswer[R]]:
        """An answer per item, in order; ``files`` are what the answers call them.

        Raises:
            ConfigError: fewer than 1 at a time, a negative number of workers, or an option outside its range.
            BudgetError: memory does not hold even one.
        """
        size = checked_size(self.batch_size)
        workers = WORKERS if self.workers is None else self.workers
        if workers < 0:
            raise ConfigError(f"workers={workers}", hint="give 0 or more")
        return self._run(items, items if files is None else files, size, workers)

    def _run(
        self, items: Sequence[I], files: Sequence[Any], size: int, workers: int
    ) -> Iterator[FileAnswer[R]]:
        names, halving = iter(files), Halving("pictures")
        for batch in _batched(_read_ahead(carried(self._read), items, size, workers), size):
            good = [r.item for r in batch if isinstance(r, Ready)]
            outcomes = (o for part in halving.parts(self.answer, good) for o in part)
            for ready in batch:
                yield _answered(next(names), ready, outcomes)
            if self.progress is not None:
                self.progress(len(batch))

    def _read(self, item: I) -> Ready[P] | WildSightError:
        try:
            return self.read(item)
        except ConfigError:
            raise
        except WildSightError as error:
            return error


def checked_size(size: int | None) -> int:
    """How many at a time; `BATCH` where None.

    Raises:
        ConfigError: fewer than 1.
    """
    size = BATCH if size is None else size
    if size < 1:
        raise ConfigError(f"batch_size={size}", hint="give 1 or more")
    return size


def batches(items: Sequence[P], size: int | None) -> Iterator[Sequence[P]]:
    """``items`` in parts of ``size``.

    Raises:
        ConfigError: a size below 1.
    """
    step = checked_size(size)
    for start in range(0, len(items), step):
        yield items[start : start + step]


def _answered(file: Any, ready: Ready[Any] | WildSightError, outcomes: Iterator[Outcome[R]]) -> FileAnswer[R]:
    outcome = next(outcomes) if isinstance(ready, Ready) else ready
    if isinstance(outcome, WildSightError):
        return FileAnswer(file, error=outcome)
    return FileAnswer(file, tuple(outcome), picture=ready.picture if isinstance(ready, Ready) else None)


def _held(ready: Any) -> int:
    return ready.held if isinstance(ready, Ready) else 0


def _batched(ready: Iterator[P], size: int) -> Iterator[list[P]]:
    """Batches of ``size``, or smaller ones where `HELD` bytes are waiting."""
    batch: list[P] = []
    for one in ready:
        batch.append(one)
        if len(batch) == size or sum(map(_held, batch)) >= HELD:
            yield batch
            batch = []
    if batch:
        yield batch


def _read_ahead(read: Callable[[I], P], items: Sequence[I], size: int, workers: int) -> Iterator[P]:
    """``read(item)`` of each, at most ``size`` of them or `HELD` bytes ahead of who asks."""
    if not workers:
        yield from map(read, items)
        return
    pool, waiting, left, largest = ThreadPoolExecutor(workers), deque[Future[P]](), iter(items), 1
    try:
        while True:
            goal = max(workers, min(size, HELD // largest))
            waiting.extend(pool.submit(read, item) for item in islice(left, max(0, goal - len(waiting))))
            if not waiting:
                return
            one = waiting.popleft().result()
            largest = max(largest, _held(one))
            yield one
    finally:
        pool.shutdown(cancel_futures=True)
