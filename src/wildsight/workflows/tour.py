"""The tour: every method that is here, on the embedded world, with nothing to download.

A stop that fails is shown as failed, never left out.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildsight.errors import ConfigError, WildSightError
from wildsight.estimators import TASKS, resolve
from wildsight.files import check_writable
from wildsight.report import Report
from wildsight.results import Table, environment


@dataclass(frozen=True)
class Stop:
    """One part of the tour.

    Attributes:
        name: for ``--only``.
        problem: what it solves, as a user would say it.
        run: writes its part of the report; takes the report, a folder for what the stop leaves (finished
            parts in it are not run again), and whether the budget is a shorter one.
    """

    name: str
    problem: str
    run: Callable[[Report, Path, bool], None]


@dataclass(frozen=True)
class Outcome:
    """How a stop went: its seconds, and the error if it failed."""

    name: str
    seconds: float
    error: str | None


def _task_stop(name: str) -> Stop:
    """The stop of a task: its module ``demo``, imported when the tour gets there."""

    def run(report: Report, folder: Path, quick: bool) -> None:
        resolve(f"wildsight.{name}.demo:demo")(report, folder, quick)

    return Stop(name, TASKS[name].problem if name in TASKS else WORLD_PROBLEM, run)


WORLD_PROBLEM = "try every method with exact labels and no download"
STOPS: tuple[Stop, ...] = tuple(_task_stop(name) for name in ("world", *TASKS))


def tour(
    out: Path,
    *,
    work: Path,
    only: Sequence[str] = (),
    quick: bool = False,
    say: Callable[[str], Any] = print,
) -> list[Outcome]:
    """Run the stops and write one report.

    Args:
        out: the report file.
        work: folder for what the stops leave; a stop that finished there is not run again.
        only: names of stops; all when empty.
        quick: shorter budgets.
        say: called with one line per stop.

    Raises:
        ConfigError: an unknown stop. DataError: the report cannot be written there.
    """
    names = [stop.name for stop in STOPS]
    for name in only:
        if name not in names:
            raise ConfigError(f"no stop is called {name!r}", hint=f"use one of {', '.join(names)}")
    check_writable(out)
    report = Report("WildSight tour", "every method on the embedded world, no download")
    outcomes = [_visit(s, report, work / s.name, quick, say) for s in STOPS if not only or s.name in only]
    rows = [[o.name, "FAILED" if o.error else "done", f"{o.seconds:.1f}"] for o in outcomes]
    report.lead(Table(["stop", "outcome", "seconds"], rows), "At a glance")
    report.section("Environment")
    report.facts(environment())
    report.save(out)
    return outcomes


def _visit(stop: Stop, report: Report, folder: Path, quick: bool, say: Callable[[str], Any]) -> Outcome:
    report.section(f"{stop.name}: {stop.problem}")
    say(f"{stop.name}: {stop.problem}")
    begin, error = time.perf_counter(), None
    try:
        stop.run(report, folder, quick)
    except WildSightError as fault:
        error = str(fault)
    except Exception:
        error = traceback.format_exc(limit=3)
    seconds = time.perf_counter() - begin
    report.text(f"{seconds:.1f} s")
    if error:
        report.warning(f"FAILED: {error}")
    say(f"{stop.name}: {'FAILED: ' + error if error else 'done'} in {seconds:.1f} s")
    return Outcome(stop.name, seconds, error)
