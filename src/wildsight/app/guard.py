"""What stands between a person's click and the library: one job at a time, a time limit, plain messages."""

from __future__ import annotations

import contextvars
import inspect
import os
import shutil
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

import gradio as gr

from wildsight.errors import ConfigError, WildSightError
from wildsight.estimators import kept
from wildsight.files import MANIFEST, cache_folder, digest_of, recover_folder, sha256
from wildsight.images import load_image
from wildsight.training.progress import listening

SECONDS = 600.0
KEPT = 4
LATE = 2
"""Jobs beyond their time that may still run; with more, no new one begins."""

_busy = threading.Lock()
_late: list[Future[Any]] = []


def guarded(job: Callable[..., Any], *, seconds: float = SECONDS) -> Callable[..., Any]:
    """``job`` for an event handler: faults become a message in the page, and the server stays up.

    Jobs run one at a time, and the page shows how far they are. One that exceeds its time is left to end by
    itself, and the next one gets its turn; with `LATE` of them left, the next one is told so instead.

    Args:
        job: what to run with the components' values.
        seconds: time limit.
    """

    def run(*values: Any) -> Any:
        _wait(seconds)
        try:
            return _in_time(_begun(job, values[1:]), seconds)
        except WildSightError as fault:
            raise gr.Error(plainly(fault), duration=None, print_exception=False) from fault
        except gr.Error:
            raise
        except Exception as bug:
            traceback.print_exc(file=sys.stderr)
            text = f"a fault of ours ({type(bug).__name__}: {bug}); the server's console has the details"
            raise gr.Error(text, duration=None, print_exception=False) from bug
        finally:
            _busy.release()

    run.__name__ = run.__qualname__ = getattr(job, "__name__", "job")
    run.__signature__ = _with_progress(job)  # type: ignore[attr-defined]
    return run


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


def _with_progress(job: Callable[..., Any]) -> inspect.Signature:
    """The signature of ``job`` after the parameter by which gradio knows that progress will be told."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = inspect.Parameter("progress", kind, default=gr.Progress())
    rest = [p.replace(annotation=p.empty) for p in inspect.signature(job).parameters.values()]
    rest = [p if p.kind is p.VAR_POSITIONAL else p.replace(default=None) for p in rest]
    return inspect.Signature([first, *rest])


def _wait(seconds: float) -> None:
    """Take the turn, telling the page meanwhile why nothing happens."""
    begin = time.monotonic()
    while not _busy.acquire(timeout=1.0):
        gr.Progress()(None, desc="waiting: another job is running")
        if time.monotonic() - begin > seconds:
            text = "another job is still running; try again in a minute"
            raise gr.Error(text, duration=None, print_exception=False)
    _late[:] = [future for future in _late if not future.done()]
    if len(_late) >= LATE:
        _busy.release()
        text = f"{LATE} jobs that took too long still run; try again later, or start the server again"
        raise gr.Error(text, duration=None, print_exception=False)


def _begun(job: Callable[..., Any], values: tuple[Any, ...]) -> Future[Any]:
    """What ``job`` will have said, in a thread that does not keep the server from ending."""
    future: Future[Any] = Future()

    def told() -> Any:
        with listening(_teller()):
            return job(*values)

    def work(context: contextvars.Context) -> None:
        try:
            future.set_result(context.run(told))
        except BaseException as fault:  # whatever it is, it is for the one who waits
            future.set_exception(fault)

    threading.Thread(target=work, args=(contextvars.copy_context(),), daemon=True).start()
    return future


def _in_time(future: Future[Any], seconds: float) -> Any:
    """The result; gr.Error where it is not there in time, and the job is then among the late ones."""
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        if future.done():  # the job's own
            return future.result()
        _late.append(future)
        text = f"this took more than {seconds:.0f} seconds; give fewer or smaller pictures"
        raise gr.Error(text, duration=None, print_exception=False) from None


def _teller() -> Callable[[str, int, int], None]:
    """What tells the page how far a job is, and how long the part that runs now will still take."""
    begin: dict[tuple[str, int], tuple[float, int]] = {}

    def tell(label: str, done: int, total: int) -> None:
        since, first = begin.setdefault((label, total), (time.monotonic(), done))
        left = (time.monotonic() - since) / (done - first) * (total - done) if done > first else None
        text = label if left is None else f"{label}, about {left:.0f} s left"
        gr.Progress()((min(done, total), total), desc=text)

    return tell


class Shelf:
    """Fitted objects by key; the one not used for longest goes when there are more than ``KEPT``."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The object under ``key``, made if it is not there."""
        if key not in self._items:
            self._items[key] = make()
        self._items.move_to_end(key)
        while len(self._items) > KEPT:
            self._items.popitem(last=False)
        return self._items[key]


shelf = Shelf()


def fitted(task: str, folder: str, load: Callable[[Path], Any]) -> Any:
    """The model of a checkpoint folder; read again once another one stands there.

    Args:
        task: whose it is.
        folder: as it was typed.
        load: reads the model from a folder.

    Raises:
        ConfigError: no folder is named.
    """
    if not (folder or "").strip():
        raise ConfigError("no checkpoint is named", hint="name the folder of the checkpoint")
    root = recover_folder(Path(folder.strip()).expanduser())
    return shelf.get(f"{task}-{root}-{state_of(root)}", lambda: load(root))


def state_of(folder: Path) -> str:
    """What tells a folder of a model from what stood there before: its manifest's hash, else sizes and times.

    >>> state_of(Path("no such folder"))
    ''
    """
    if (folder / MANIFEST).is_file():
        return sha256(folder / MANIFEST)
    if not folder.is_dir():
        return ""
    files = [(f.name, f.stat()) for f in sorted(folder.iterdir()) if f.is_file()]
    return digest_of([[name, s.st_size, s.st_mtime_ns] for name, s in files])


def taught(name: str, load: Callable[[Path], Any], teach: Callable[[], Any]) -> Any:
    """A sample model, `kept` in the cache.

    Args:
        name: of the task and of what the lesson depends on.
        load: reads the model from a folder.
        teach: makes a model that has ``save_pretrained``.
    """
    return kept(cache_folder("app") / name, load, teach)


def run_folder(task: str) -> Path:
    """A new folder for what one click leaves, in the system's place for temporary files."""
    return Path(mkdtemp(prefix=f"wildsight-{task}-"))


def readable(files: list[Path], what: str) -> tuple[list[Path], list[str]]:
    """The uploads that are pictures, and a sentence for each that is not.

    Args:
        files: the uploads.
        what: they are, for the message.

    Raises:
        gr.Error: none is a picture.
    """
    good, bad = [], []
    for file in files:
        try:
            load_image(file)
            good.append(file)
        except WildSightError as fault:
            bad.append(plainly(fault))
    if not good:
        raise gr.Error(f"no {what} could be read: {'; '.join(bad[:3])}", print_exception=False)
    return good, bad


def results_of(report: Path, *more: Path) -> list[str]:
    """The files of a run to take away: its report, its table, and whatever else."""
    return [str(report), str(report.with_name("results.csv")), *map(str, more)]


def lent(files: Iterable[Path], task: str) -> list[str]:
    """Copies of sample files that the page may hand out."""
    folder = run_folder(task)
    return [str(shutil.copyfile(f, folder / f"{n:02d}-{f.name}")) for n, f in enumerate(files)]


def paths(files: Any) -> list[Path]:
    """The uploaded files, in order of upload.

    Raises:
        gr.Error: there is none.
    """
    many = files if isinstance(files, list) else [files]
    found = [Path(str(getattr(f, "name", f))) for f in many if f]
    if not found:
        raise gr.Error("no picture was given; upload one or take a sample", print_exception=False)
    return found
