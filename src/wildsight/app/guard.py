"""What stands between a person's click and the library: one job at a time, a time limit, plain messages."""

from __future__ import annotations

import functools
import shutil
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr

from wildsight.errors import WildSightError

SECONDS = 600.0
KEPT = 4

_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wildsight-app")
_busy = threading.Lock()


def guarded(job: Callable[..., Any], *, seconds: float = SECONDS) -> Callable[..., Any]:
    """``job`` for an event handler: faults become a message in the page, and the server stays up.

    Jobs run one at a time. One that exceeds its time is left to end by itself, and the next one is told
    so.

    Args:
        job: what to run with the components' values.
        seconds: time limit.
    """

    @functools.wraps(job)
    def run(*values: Any) -> Any:
        if not _busy.acquire(timeout=seconds):
            raise gr.Error("another job is still running; try again in a minute", duration=None)
        future = _worker.submit(_release_after, job, values)
        try:
            return future.result(timeout=seconds)
        except LateError:
            text = f"this took more than {seconds:.0f} seconds; give fewer or smaller pictures"
            raise gr.Error(text, duration=None, print_exception=False) from None
        except WildSightError as fault:
            raise gr.Error(str(fault), duration=None, print_exception=False) from fault
        except gr.Error:
            raise
        except Exception as bug:
            traceback.print_exc(file=sys.stderr)
            text = f"a fault of ours ({type(bug).__name__}: {bug}); the server's console has the details"
            raise gr.Error(text, duration=None, print_exception=False) from bug

    return run


def _release_after(job: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    try:
        return job(*values)
    finally:
        _busy.release()


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


def run_folder(room: str) -> Path:
    """A new folder for what one click leaves, in the system's place for temporary files."""
    return Path(mkdtemp(prefix=f"wildsight-{room}-"))


def lent(files: Iterable[Path], room: str) -> list[str]:
    """Copies of sample files that the page may hand out."""
    folder = run_folder(room)
    return [str(shutil.copyfile(f, folder / f"{n:02d}-{f.name}")) for n, f in enumerate(files)]


def paths(files: Any) -> list[Path]:
    """The uploaded files, in order of upload.

    Raises:
        gr.Error: none.
    """
    many = files if isinstance(files, list) else [files]
    found = [Path(str(getattr(f, "name", f))) for f in many if f]
    if not found:
        raise gr.Error("no picture was given; upload one or take a sample", print_exception=False)
    return found
