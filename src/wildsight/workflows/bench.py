"""One bench form for every task: methods x seeds on one source, mean and spread, one folder.

A task's bench function yields rows; a row is one method, one seed and one group (a category, or
``mean`` over categories) with its metrics. This file turns them into tables, files and a report.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildsight.errors import ConfigError
from wildsight.estimators import resolve, task_named
from wildsight.files import check_writable
from wildsight.report import Report
from wildsight.report.plots import scatter
from wildsight.results import RunFolder, Table, environment, score_table, scores_of, spread, title, write_csv


@dataclass(frozen=True)
class BenchResult:
    """What a bench measured.

    Attributes:
        rows: one mapping per method, seed and group: ``method``, ``seed``, ``group`` and the metrics.
        metrics: names of the metrics to tabulate, headline first.
        facts: settings, protocol and its hash, printed with the scores.
        pictures: (image, caption) pairs for the report.
        cost: the metric to plot the headline against, such as ``fit_seconds``; None for no plot.
    """

    rows: Sequence[Mapping[str, Any]]
    metrics: Sequence[str]
    facts: Mapping[str, Any]
    pictures: Sequence[tuple[Any, str]] = field(default_factory=tuple)
    cost: str | None = None


def run_bench(task_name: str, source: str, out: Path, **options: Any) -> tuple[BenchResult, list[Table]]:
    """Run a task's bench and write its folder.

    Args:
        task_name: name of the task.
        source: source string.
        out: folder for ``scores.json``, ``results.csv`` and ``report.html``; finished cells are kept
            there too, so that an interrupted bench goes on where it stopped.
        options: passed to the task's bench function.

    Returns:
        The rows and one table per metric.

    Raises:
        ConfigError: an option that this task's bench does not have. DataError: ``out`` cannot be written.
    """
    run = resolve(task_named(task_name).bench)
    _known(task_name, run, options)
    folder = RunFolder(out)
    check_writable(folder.report)
    result: BenchResult = BenchResult(**run(source, out=out, **options))
    tables = [score_table(result.rows, metric) for metric in result.metrics]
    write_csv(folder.results, result.rows)
    folder.write_scores(
        {
            "task": task_name,
            "source": source,
            "facts": dict(result.facts),
            "scores": _scores(result),
            "environment": environment(),
        }
    )
    _report(task_name, source, result, tables).save(folder.report)
    return result, tables


def _known(task_name: str, run: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that the task's bench function does not take; one that takes any checks them itself."""
    parameters = inspect.signature(run).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("out", "progress")]
    for name in options:
        if name != "progress" and name not in names:
            text = f"the bench of {task_name} has no option {name.replace('_', '-')!r}"
            raise ConfigError(text, hint=f"it takes {', '.join(names)}")


def against_cost(result: BenchResult, cost: str) -> dict[str, tuple[float, float]]:
    """(cost, headline score) of each method: means over seeds of the last group that has both."""
    points: dict[str, tuple[float, float]] = {}
    for row in result.rows:
        method, group = str(row["method"]), str(row["group"])
        prices, scores = (scores_of(result.rows, method, group, m) for m in (cost, result.metrics[0]))
        if prices and scores:
            points[method] = (spread(prices)[0], spread(scores)[0])
    return points


def _scores(result: BenchResult) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """method -> group -> metric -> mean and std."""
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in result.rows:
        cell = out.setdefault(str(row["method"]), {}).setdefault(str(row["group"]), {})
        for metric in result.metrics:
            numbers = scores_of(result.rows, row["method"], row["group"], metric)
            if numbers and metric not in cell:
                mean, std = spread(numbers)
                cell[metric] = {"mean": mean, "std": std, "seeds": len(numbers)}
    return out


def named(metric: str) -> str:
    """A metric in words, with its name in the CSV file behind them."""
    words = title(metric)
    return metric if words == metric else f"{words} ({metric})"


def _report(task_name: str, source: str, result: BenchResult, tables: list[Table]) -> Report:
    report = Report(f"Bench: {task_name}", f"{source}: {task_named(task_name).problem}")
    for table in tables:
        report.table(table, f"{named(table.columns[0])}: mean and standard deviation over seeds")
    points = against_cost(result, result.cost) if result.cost else {}
    if result.cost and points:
        report.figure(
            scatter(points, result.cost, result.metrics[0]), f"{title(result.metrics[0])} against cost"
        )
    if result.pictures:
        report.gallery(list(result.pictures), "Best and worst cases")
    report.section("Settings and protocol")
    report.facts(dict(result.facts))
    report.section("Environment")
    report.facts(environment())
    return report
