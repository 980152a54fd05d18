"""What the field reports of an accuracy matrix. ``A[t][j]``: accuracy on task j after learning task t.

The zero-shot row is no part of A. Values are never rounded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wildsight.errors import DataError


def square(rows: Sequence[Sequence[float]], names: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """The matrix [T, T], float64.

    Args:
        rows: one row per learned task, in order.
        names: the learned tasks, in order.
        columns: the tested tasks, in order.

    Raises:
        DataError: rows and columns do not name the same tasks in the same order, or the shape differs.
    """
    if list(names) != list(columns):
        raise DataError(
            "rows and columns of the accuracy matrix name other tasks or another order",
            hint="permute rows and columns together",
        )
    matrix = np.asarray(rows, np.float64)
    if matrix.shape != (len(names), len(names)):
        raise DataError(f"an accuracy matrix of shape {matrix.shape} for {len(names)} tasks")
    return matrix


def transfer(matrix: np.ndarray) -> float:
    """Zero-shot skill that survives: mean over j >= 2 of the mean of column j above the diagonal.

    >>> transfer(np.array([[80.0, 50, 40], [70, 90, 45], [60, 85, 95]]))
    46.25
    """
    columns = [matrix[:j, j].mean() for j in range(1, len(matrix))]
    return float(np.mean(columns)) if columns else float("nan")


def average(matrix: np.ndarray) -> float:
    """Mean of the whole matrix.

    >>> round(average(np.array([[80.0, 50, 40], [70, 90, 45], [60, 85, 95]])), 3)
    68.333
    """
    return float(matrix.mean())


def last(matrix: np.ndarray) -> float:
    """Mean of the last row.

    >>> last(np.array([[80.0, 50, 40], [70, 90, 45], [60, 85, 95]]))
    80.0
    """
    return float(matrix[-1].mean())


def backward_transfer(matrix: np.ndarray) -> float:
    """Mean over i < T of ``A[T, i] - A[i, i]``; negative where learned tasks were forgotten.

    >>> backward_transfer(np.array([[80.0, 50, 40], [70, 90, 45], [60, 85, 95]]))
    -12.5
    """
    count = len(matrix) - 1
    return float((matrix[-1, :count] - matrix.diagonal()[:count]).mean()) if count else 0.0


def forgetting(matrix: np.ndarray) -> np.ndarray:
    """Per task, the best accuracy since it was learned minus the last one: [T], >= 0.

    Neither this nor `backward_transfer` reads above the diagonal.
    """
    return np.array([matrix[j:, j].max() - matrix[-1, j] for j in range(len(matrix))])


def summary(matrix: np.ndarray) -> dict[str, float]:
    """Transfer, Avg, Last, mean forgetting and backward transfer of a full matrix."""
    values = {
        "transfer": transfer(matrix),
        "avg": average(matrix),
        "last": last(matrix),
        "forgetting": float(forgetting(matrix).mean()),
        "backward_transfer": backward_transfer(matrix),
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}


def class_incremental(accuracies: Sequence[float]) -> dict[str, float]:
    """Avg and Last of the accuracies over all classes seen so far, one per step.

    >>> class_incremental([90.0, 80.0])
    {'avg': 85.0, 'last': 80.0}
    """
    if not accuracies:
        raise DataError("no step was evaluated")
    return {"avg": float(np.mean(accuracies)), "last": float(accuracies[-1])}


def triangle(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Accuracy on each learned task after each step, [T, T]; NaN above the diagonal, where nothing is
    tested.

    Raises:
        DataError: a learned task was not tested after a later one.
    """
    names = [str(row["task"]) for row in rows]
    matrix = np.full((len(names), len(names)), np.nan)
    for step, row in enumerate(rows):
        for column, name in enumerate(names[: step + 1]):
            if name not in row["accuracy"]:
                raise DataError(f"task {name!r} was not tested after every task", hint="run update again")
            matrix[step, column] = float(row["accuracy"][name])
    return matrix


def history(rows: Sequence[dict[str, Any]]) -> tuple[list[list[float]], list[str], list[str]]:
    """(rows, names, columns) of the entries ``{"task", "accuracy": {task: value}}``, for `square`.

    Raises:
        DataError: a task that later rows test is missing in an earlier one.
    """
    names = [str(row["task"]) for row in rows]
    columns = list(rows[-1]["accuracy"]) if rows else []
    absent = [c for row in rows for c in columns if c not in row["accuracy"]]
    if absent:
        raise DataError(f"task {absent[0]!r} was not tested after every task", hint="run update again")
    return [[float(row["accuracy"][c]) for c in columns] for row in rows], names, columns


def matrix_scores(rows: Sequence[dict[str, Any]], scenario: str = "task") -> dict[str, float]:
    """Transfer, Avg, Last, forgetting and backward transfer of a learner's matrix.

    In the class scenario, Avg and Last are over all classes seen so far, Transfer is not defined, and
    forgetting and backward transfer are of each task's own pictures among all classes seen.

    Args:
        rows: one per learned task: ``task``, ``accuracy`` (task -> percent) and, in the class scenario,
            ``seen``.
        scenario: ``task`` or ``class``.

    Raises:
        DataError: nothing was evaluated, or tasks are missing.
    """
    if scenario == "class":
        scores = class_incremental([float(row["seen"]) for row in rows])
        matrix = triangle(rows)
        lost, back = float(forgetting(matrix).mean()), backward_transfer(matrix)
        return {**scores, "forgetting": lost, "backward_transfer": back}
    return summary(square(*history(rows)))
