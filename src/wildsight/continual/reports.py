"""The folder of a run: the matrix as a heat map, forgetting, teacher weights, drift of prototypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wildsight.continual.metrics import forgetting, triangle
from wildsight.continual.result import Evaluation, Update
from wildsight.continual.runs import scores
from wildsight.errors import DataError
from wildsight.report import Report
from wildsight.report.plots import bars, new_figure
from wildsight.results import RunFolder, Table, environment, write_csv

if TYPE_CHECKING:
    from wildsight.continual.learner import ContinualLearner


def matrix_figure(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Accuracy on each task (columns) after learning each (rows), as a heat map with numbers."""
    columns = list(dict.fromkeys(name for row in rows for name in row["accuracy"]))
    values = np.array([[row["accuracy"].get(c, np.nan) for c in columns] for row in rows])
    figure, axes = new_figure(size=(1.5 + 0.9 * len(columns), 1.2 + 0.5 * len(rows)))
    axes[0].imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes[0].text(j, i, f"{value:.0f}", ha="center", va="center", color="w" if value < 60 else "k")
    axes[0].set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes[0].set_yticks(range(len(rows)), [f"after {row['task']}" for row in rows])
    return figure


def weights_figure(updates: Sequence[Update]) -> Any:
    """How much the first model counts against the previous one, over the pictures of each task."""
    figure, axes = new_figure()
    for update in updates:
        if update.shares:
            counts = update.shares["counts"]
            axes[0].stairs(counts, np.linspace(0, 1, len(counts) + 1), label=update.task)
    axes[0].set_xlabel("weight of the first model (the rest: the previous model)")
    axes[0].set_ylabel("training pictures")
    axes[0].legend(fontsize=7)
    return figure


def write_updates(
    learner: ContinualLearner,
    updates: Sequence[Update],
    source: str,
    out: Path,
    protocol: Mapping[str, Any],
    scenario: str = "task",
) -> Path:
    """``scores.json``, ``results.csv`` and ``report.html`` of a run; returns the report."""
    folder = RunFolder(out)
    summary = _summary(learner, scenario)
    facts = {"source": source, "method": learner.settings.method, "scenario": scenario, **protocol}
    folder.write_scores(
        {
            "summary": summary,
            "matrix": learner.matrix,
            "updates": [u.to_dict() for u in updates],
            "base": {"name": learner.settings.backbone, "sha256": learner.base_sha},
            "facts": facts,
            "environment": environment(),
        }
    )
    write_csv(folder.results, [{"after": row["task"], **row["accuracy"]} for row in learner.matrix])
    report = Report("What the model learned, and what it kept", f"{source}, {learner.settings.method}")
    for update in updates:
        if not update.accepted:
            report.warning(f"{update.task} was refused: {update.reason}")
    _matrix_section(report, learner, summary)
    _task_sections(report, updates)
    report.section("Settings and protocol")
    report.facts(
        {**vars(learner.settings), **learner.hyper, **facts, "SHA-256 of the base": learner.base_sha}
    )
    report.section("Environment")
    report.facts(environment())
    return report.save(folder.report)


def _summary(learner: ContinualLearner, scenario: str) -> dict[str, float]:
    """The field's figures, where the matrix is complete."""
    try:
        return scores(learner, scenario)
    except (DataError, KeyError):
        return {}


def _matrix_section(report: Report, learner: ContinualLearner, summary: Mapping[str, float]) -> None:
    if not learner.matrix:
        return
    report.section("Accuracy in percent, after each task")
    report.figure(matrix_figure(learner.matrix), "right of the diagonal: zero-shot skill that survived")
    if summary:
        report.table(Table(list(summary), [[f"{v:.1f}" for v in summary.values()]]))
    if "forgetting" in summary:
        names = [str(row["task"]) for row in learner.matrix]
        lost = forgetting(triangle(learner.matrix))
        values = {name: (float(value), 0.0) for name, value in zip(names, lost, strict=True)}
        title = "forgetting: best accuracy since learned minus the last, points"
        report.figure(bars(values, "forgetting"), title)


def _task_sections(report: Report, updates: Sequence[Update]) -> None:
    if any(u.shares for u in updates):
        report.section("Teacher weights")
        report.figure(weights_figure(updates))
    for update in updates:
        report.section(f"Task {update.task}")
        if update.resumed:
            report.text("Learned in an earlier run of this folder.")
        guard = update.guard.items()
        rows = [[n, f"{update.first.get(n, a):.1f}", f"{a:.1f}", f"{b:.1f}"] for n, (a, b) in guard]
        if rows:
            report.table(Table(["guard", "when first measured", "before", "after"], rows), "percent")
        if update.drift:
            values = {name: (1 - value, 0.0) for name, value in update.drift.items()}
            report.figure(bars(values, "drift"), "drift of the prototypes: 1 - cosine with the start")
        report.facts({"loss per epoch": [round(v, 4) for v in update.curve], **update.seconds})


def write_evaluation(learner: ContinualLearner, found: Evaluation, source: str, out: Path) -> Path:
    """The folder of an evaluation; returns its report."""
    folder = RunFolder(out)
    rows = [{"task": n, "accuracy": v, "pictures": found.counts[n]} for n, v in found.accuracy.items()]
    write_csv(folder.results, rows)
    folder.write_scores(
        {"mean": found.mean, "scenario": found.scenario, "tasks": rows, "environment": environment()}
    )
    report = Report("Accuracy per task", f"{source}, {found.scenario} scenario")
    for error in found.errors:
        report.warning(f"not read, counted as wrong: {error}")
    report.figure(bars({n: (v, 0.0) for n, v in found.accuracy.items()}, "top-1 accuracy, percent"))
    report.table(sheet(found))
    report.facts({"learned": ", ".join(t["name"] for t in learner.learned) or "nothing", **environment()})
    return report.save(folder.report)


def sheet(found: Evaluation) -> Table:
    """Tasks down, accuracy across."""
    body = [[n, f"{v:.1f}", found.counts[n]] for n, v in found.accuracy.items()]
    return Table(["task", "accuracy %", "pictures"], [*body, ["mean over tasks", f"{found.mean:.1f}", ""]])
