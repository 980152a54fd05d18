"""The folder of a run: the matrix as a heat map, forgetting, teacher weights, drift of prototypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.continual.metrics import forgetting, matrix_scores, triangle
from wildsight.continual.result import ContinualResult, Update
from wildsight.errors import DataError
from wildsight.estimators.predictions import Predictions, write_all
from wildsight.images import as_picture
from wildsight.report import Report
from wildsight.report.plots import bars, new_figure
from wildsight.results import RunFolder, Table, environment, write_csv

LISTED = 1000
"""Rows in the report of a prediction at most."""


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


def matrix_picture(rows: Sequence[Mapping[str, Any]]) -> Image:
    """`matrix_figure` as a picture."""
    stream = BytesIO()
    matrix_figure(rows).savefig(stream, format="png")
    return as_picture(stream.getvalue())


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


@dataclass(frozen=True)
class RunFacts:
    """What the report of a run is made of.

    Attributes:
        matrix: the learner's rows.
        updates: what was done.
        scenario: ``task`` or ``class``.
        settings: of the learner, and the method's hyper-parameters.
        base: ``name`` and ``sha256`` of the first model.
        facts: source, method and protocol.
    """

    matrix: Sequence[dict[str, Any]]
    updates: Sequence[Update]
    scenario: str
    settings: Mapping[str, Any]
    base: Mapping[str, str]
    facts: Mapping[str, Any]

    def summary(self) -> dict[str, float]:
        """The field's figures, where the matrix is complete."""
        try:
            return matrix_scores(self.matrix, self.scenario)
        except (DataError, KeyError):
            return {}


def write_updates(run: RunFacts, out: Path) -> Path:
    """``scores.json``, ``results.csv`` and ``report.html`` of a run; returns the report.

    Raises:
        DataError: the folder cannot be written.
    """
    folder, summary = RunFolder(out), run.summary()
    folder.write_scores(
        {
            "summary": summary,
            "matrix": run.matrix,
            "updates": [u.to_dict() for u in run.updates],
            "base": dict(run.base),
            "facts": dict(run.facts),
            "environment": environment(),
        }
    )
    write_csv(folder.results, [{"after": row["task"], **row["accuracy"]} for row in run.matrix])
    report = Report(
        "What the model learned, and what it kept", f"{run.facts['source']}, {run.facts['method']}"
    )
    for update in run.updates:
        if not update.accepted:
            report.warning(f"{update.task} was refused: {update.reason}")
    _matrix_section(report, run.matrix, summary)
    _task_sections(report, run.updates)
    report.section("Settings and protocol")
    report.facts({**run.settings, **run.facts, "SHA-256 of the base": run.base["sha256"]})
    report.section("Environment")
    report.facts(environment())
    return report.save(folder.report)


def _matrix_section(report: Report, matrix: Sequence[dict[str, Any]], summary: Mapping[str, float]) -> None:
    if not matrix:
        return
    report.section("Accuracy in percent, after each task")
    report.figure(matrix_figure(matrix), "right of the diagonal: zero-shot skill that survived")
    if summary:
        report.table(Table(list(summary), [[f"{v:.1f}" for v in summary.values()]]))
    if "forgetting" in summary:
        names = [str(row["task"]) for row in matrix]
        lost = forgetting(triangle(matrix))
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


class ContinualPredictions(Predictions[ContinualResult]):
    """The best answer to each picture, the first of them in the report."""

    title, caption = "What pictures show", "The first pictures"

    def __init__(self, out: str | Path, **options: Any) -> None:
        super().__init__(out, **options)
        self.table: list[list[str]] = []

    def rows(self, result: ContinualResult) -> list[Mapping[str, Any]]:
        """The best answer."""
        told = {"image": str(result.image), "label": result.label, "task": result.task}
        return [{**told, "probability": result.probability}]

    def draw(self, number: int, result: ContinualResult, picture: Image | None) -> None:
        """Keep the picture, and the row of the report."""
        if len(self.table) < LISTED:
            probability = f"{result.probability:.3f}"
            self.table.append([str(result.image), result.label, result.task, probability])
        if result.image is not None and self.gallery.wants(number):
            shown = self.picture_of(result.image, picture)
            if shown is not None:
                self.gallery.add(number, shown, f"{result.label} {result.probability:.2f}")

    def show(self, report: Report) -> None:
        """Rows, and pictures."""
        more = "" if len(self.table) == self.count else f"the first {LISTED}; all are in results.csv"
        report.table(Table(["picture", "answer", "task", "probability"], self.table), more)
        super().show(report)


def write_predictions(results: Sequence[ContinualResult], errors: Sequence[str], out: Path) -> Path:
    """Write the folder of a prediction: ``results.csv``, ``scores.json`` and ``report.html``.

    Args:
        results: one per readable picture.
        errors: one sentence per picture that could not be read.
        out: the folder.

    Returns:
        The report.

    Raises:
        DataError: the folder cannot be written.
    """
    return write_all(ContinualPredictions(out), results, errors)
