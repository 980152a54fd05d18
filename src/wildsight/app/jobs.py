"""What stands between a person's click and the library: queues, a time limit, stopping, plain messages.

There are three queues. Samples are taken in one, questions are answered in the second, and whatever learns
waits in the third, so that a sample or a question never waits behind a training.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import gradio as gr

from wildsight.errors import WildSightError
from wildsight.training.progress import listening

SECONDS = 600.0
LATE = 2
"""Jobs beyond their time that may still run; with more, no new one begins."""
PATIENCE = 2.0
"""Seconds that a stopped job has to end by itself before the page goes on without it."""
SHOWN = 8.0
"""Seconds that a message stays, at least; a long one stays longer."""

_late: list[Future[Any]] = []
_current: set[Job] = set()


class Stopped(Exception):
    """The person who began the job has ended it."""


@dataclass(eq=False)
class Job:
    """One click.

    Attributes:
        tab: where it was made.
        session: whose it is.
        deadline: when it has taken too long, on the monotonic clock.
        stop: set once it is to end.
    """

    tab: str = ""
    session: str = ""
    deadline: float = math.inf
    stop: threading.Event = field(default_factory=threading.Event)


class Queue:
    """One job at a time, first come, first served; each is shown its place."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._jobs: list[Job] = []
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def enter(self, job: Job, seconds: float = math.inf) -> None:
        """Wait for the turn.

        Raises:
            Stopped: the job was ended meanwhile.
            gr.Error: the turn did not come in time.
        """
        begin = time.monotonic()
        with self._changed:
            self._jobs.append(job)
            while (place := self._jobs.index(job)) > 0:
                if job.stop.is_set():
                    self._jobs.remove(job)
                    raise Stopped
                if time.monotonic() - begin > seconds:
                    self._jobs.remove(job)
                    raise message(f"another {self.what} is still running; try again in a minute")
                text = f"waiting: {place} before you, as another {self.what} is running"
                gr.Progress()(None, desc=text)
                self._changed.wait(min(0.5, seconds))

    def leave(self, job: Job) -> None:
        """Let the next one have its turn; without effect where the job is not in the queue."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify_all()


SAMPLES, ANSWERS, TRAININGS = Queue("sample"), Queue("job"), Queue("training")
_job: contextvars.ContextVar[Job | None] = contextvars.ContextVar("job", default=None)


def message(text: str) -> gr.Error:
    """An error for the page, which goes away once it can have been read."""
    return gr.Error(text, duration=max(SHOWN, len(text) / 10), print_exception=False)


def guarded(
    job: Callable[..., Any], *, tab: str = "", queue: Queue = ANSWERS, seconds: float = SECONDS
) -> Callable[..., Any]:
    """``job`` for an event handler: faults become a message in the page, and the server stays up.

    The page shows a job's place in the queue, and then how far it is. One that exceeds its time is left to
    end by itself, and the next one gets its turn; with `LATE` of them left, no new one begins.

    Args:
        job: what to run with the components' values.
        tab: where it belongs, for `stop`.
        queue: where it waits for its turn.
        seconds: time limit, training apart.
    """

    def run(*values: Any) -> Any:
        now = Job(tab, _session())
        _current.add(now)
        try:
            queue.enter(now, seconds)
            _refuse_late()
            now.deadline = time.monotonic() + seconds
            return _in_time(_begun(job, values[1:], now), now, seconds)
        except Stopped:
            raise message("stopped") from None
        except WildSightError as fault:
            raise message(plainly(fault)) from fault
        except gr.Error:
            raise
        except Exception as bug:
            traceback.print_exc(file=sys.stderr)
            text = f"a fault of ours ({type(bug).__name__}: {bug}); the server's console has the details"
            raise message(text) from bug
        finally:
            _current.discard(now)
            queue.leave(now)

    run.__name__ = run.__qualname__ = getattr(job, "__name__", "job")
    run.__signature__ = _with_progress(job)  # type: ignore[attr-defined]
    return run


@contextmanager
def learning(seconds: float = SECONDS) -> Iterator[None]:
    """While this lasts the job waits among the trainings, has no time limit, and lets others ask.

    Args:
        seconds: time limit of what the job does afterwards.
    """
    job = _job.get()
    if job is None:
        yield
        return
    ANSWERS.leave(job)
    job.deadline = math.inf
    try:
        TRAININGS.enter(job)
        yield
    finally:
        TRAININGS.leave(job)
    ANSWERS.enter(job)
    job.deadline = time.monotonic() + seconds


def stop(tab: str, session: str | None = None) -> int:
    """End the jobs of a tab; returns how many there were.

    Args:
        tab: as `guarded` was given it.
        session: whose; that of the present request where None.
    """
    whose = _session() if session is None else session
    found = [job for job in list(_current) if (job.tab, job.session) == (tab, whose)]
    for job in found:
        job.stop.set()
    return len(found)


def running(but: int = 0) -> str:
    """What the server is at, in a sentence; empty where nothing runs.

    Args:
        but: jobs that are not counted, such as the one that asks.
    """
    counts = ((ANSWERS, len(ANSWERS) - but), (TRAININGS, len(TRAININGS)))
    parts = [f"{n} {q.what}{'s' * (n > 1)}" for q, n in counts if n > 0]
    return f"Running or waiting on this server now: {' and '.join(parts)}." if parts else ""


def plainly(fault: WildSightError) -> str:
    """The sentence of ``fault``, an uploaded file called by its name and not by where the server keeps it.

    >>> plainly(WildSightError("truncated", where=uploads() / "0f3a" / "torn.png", hint="restore it"))
    'torn.png: truncated; restore it'
    """
    if fault.where is None or not Path(fault.where).is_relative_to(uploads()):
        return str(fault)
    return str(fault).replace(fault.where, Path(fault.where).name)


def uploads() -> Path:
    """Where gradio keeps what was uploaded."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(gettempdir()) / "gradio")


def _session() -> str:
    """Whose request this is; empty outside of one."""
    from gradio.context import LocalContext

    return str(getattr(LocalContext.request.get(None), "session_hash", None) or "")


def _with_progress(job: Callable[..., Any]) -> inspect.Signature:
    """The signature of ``job`` after the parameter by which gradio knows that progress will be shown."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = inspect.Parameter("progress", kind, default=gr.Progress())
    rest = [p.replace(annotation=p.empty) for p in inspect.signature(job).parameters.values()]
    rest = [p if p.kind is p.VAR_POSITIONAL else p.replace(default=None) for p in rest]
    return inspect.Signature([first, *rest])


def _refuse_late() -> None:
    _late[:] = [future for future in _late if not future.done()]
    if len(_late) >= LATE:
        text = f"{LATE} jobs that took too long still run; try again later, or start the server again"
        raise message(text)


def _begun(job: Callable[..., Any], values: tuple[Any, ...], now: Job) -> Future[Any]:
    """What ``job`` will have said, in a thread that does not keep the server from ending."""
    future: Future[Any] = Future()

    def listened() -> Any:
        _job.set(now)
        with listening(_listener(now)):
            return job(*values)

    def work(context: contextvars.Context) -> None:
        try:
            future.set_result(context.run(listened))
        except BaseException as fault:  # whatever it is, it is for the one who waits
            future.set_exception(fault)

    threading.Thread(target=work, args=(contextvars.copy_context(),), daemon=True).start()
    return future


def _in_time(future: Future[Any], job: Job, seconds: float) -> Any:
    """The result.

    Raises:
        gr.Error: it is not there in time, and the job is then among the late ones.
        Stopped: the job was ended, and did not end by itself within `PATIENCE`.
    """
    ending = math.inf
    while True:
        try:
            return future.result(timeout=max(0.0, min(0.2, job.deadline - time.monotonic())))
        except TimeoutError:
            if future.done():  # the job's own
                return future.result()
        now = time.monotonic()
        if job.stop.is_set():
            ending = min(ending, now + PATIENCE)
        if now >= min(job.deadline, ending):
            job.stop.set()
            _late.append(future)
            if now >= ending:
                raise Stopped
            raise message(f"this took more than {seconds:.0f} seconds; give fewer or smaller pictures")


def _listener(job: Job) -> Callable[[str, int, int], None]:
    """What shows the page how far a job is, and how long the part that runs now will still take."""
    begin: dict[tuple[str, int], tuple[float, int]] = {}

    def listen(label: str, done: int, total: int) -> None:
        if job.stop.is_set():
            raise Stopped
        since, first = begin.setdefault((label, total), (time.monotonic(), done))
        left = (time.monotonic() - since) / (done - first) * (total - done) if done > first else None
        text = label if left is None else f"{label}, about {left:.0f} s left"
        gr.Progress()((min(done, total), total), desc=text)

    return listen
