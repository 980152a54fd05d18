"""What every run leaves in its folder, in all tasks: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wildsight.estimators.evaluation import Evaluation
from wildsight.report import Report
from wildsight.report.plots import curve
from wildsight.results import RunFolder, environment, write_csv

UNREAD = 200
"""Sentences on what could not be read that a report shows at most; ``scores.json`` has all of them."""
UNSHOWN = frozenset({"epoch", "lr", "seconds"})


def write_fit(estimator: Any, run: RunFolder) -> Path:
    """The folder of a fit; returns its report.

    Raises:
        DataError: the folder cannot be written.
    """
    tables = estimator.fit_tables()
    rows = [dict(zip(table.columns, row, strict=True)) for table, _ in tables[:1] for row in table.rows]
    write_csv(run.results, rows)
    own = {"settings": asdict(estimator.settings), "hyper": estimator.hyper}
    facts = {"task": estimator.task, **own, "fitted_on": estimator.fitted_on, "not_read": estimator.not_read}
    run.write_scores({**facts, **estimator.fit_facts(), "environment": environment()})
    report = Report(
        type(estimator).__name__, f"{estimator.settings.method} on {estimator.fitted_on['source']}"
    )
    _warn(report, estimator.warnings(), estimator.not_read)
    for line in estimator.fit_summary():
        report.text(line)
    report.facts({**plain(asdict(estimator.settings)), **plain(estimator.hyper), **estimator.fitted_on})
    if estimator.history is not None and estimator.history.epochs:
        names = [n for n in estimator.history.epochs[0] if n not in UNSHOWN]
        report.figure(curve({n: estimator.history.curve(n) for n in names}, "loss over epochs"), "Training")
    for table, caption in tables:
        report.table(table, caption)
    estimator.show_fit(report)
    return close_report(report, run)


def write_evaluation(estimator: Any, evaluation: Evaluation, run: RunFolder, source: str) -> Path:
    """The folder of an evaluation; returns its report.

    Raises:
        DataError: the folder cannot be written.
    """
    write_csv(run.results, evaluation.rows)
    facts = {"task": estimator.task, "source": source, **evaluation.to_dict()}
    run.write_scores({**facts, "environment": environment()})
    report = Report("Evaluation", f"{estimator.settings.method} on {source}")
    _warn(report, [*estimator.warnings(), *evaluation.notes()], evaluation.errors)
    for line in evaluation.summary():
        report.text(line)
    report.table(evaluation.table(), evaluation.caption)
    evaluation.show(report)
    pictures = evaluation.pictures()
    if pictures:
        report.gallery(pictures, "Best and worst cases")
    report.section("Settings and protocol")
    report.facts({**plain(asdict(estimator.settings)), **plain(estimator.hyper), **evaluation.protocol})
    return close_report(report, run)


def plain(values: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots.

    >>> plain({"neck": {"image_size": 224}, "seed": 0})
    {'neck.image_size': 224, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        found |= plain(value, f"{within}{name}.") if nested else {f"{within}{name}": value}
    return found


def begin_report(title: str, subtitle: str, errors: Sequence[str], notes: Sequence[str] = ()) -> Report:
    """A report that names first what could not be used."""
    report = Report(title, subtitle)
    _warn(report, notes, errors)
    return report


def _warn(report: Report, notes: Sequence[str], errors: Sequence[str]) -> None:
    for text in notes:
        report.warning(text)
    for error in shortened([f"not read: {e}" for e in errors], UNREAD):
        report.warning(error)


def shortened(sentences: Sequence[str], most: int = 24) -> list[str]:
    """The first few, and how many more there are.

    >>> shortened(["a", "b", "c"], 2)
    ['a', 'b', 'and 1 more']
    """
    more = len(sentences) - most
    return [*sentences[:most], *([f"and {more} more"] if more > 0 else [])]


def close_report(report: Report, run: RunFolder) -> Path:
    """Write a report that ends with its environment."""
    report.section("Environment")
    report.facts(environment())
    return report.save(run.report)
