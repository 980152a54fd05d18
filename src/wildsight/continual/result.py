"""What the continual task answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from wildsight.errors import ConfigError
from wildsight.estimators.evaluation import Evaluation
from wildsight.results import Result, Table

if TYPE_CHECKING:
    from torch import Tensor

    from wildsight.report import Report

BINS = 20


@dataclass(frozen=True)
class ContinualResult(Result):
    """Which of the candidates a picture shows.

    Attributes:
        image: its file; None for a picture in memory.
        label: the best class name, and ``task``: the task it was learned in ("" for names given by hand).
        probability: of ``label`` among the candidates, in [0, 1].
        classes, probabilities: the best few, best first.
    """

    image: Path | None
    label: str
    task: str
    probability: float
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def line(self) -> str:
        """The result on one line of a terminal."""
        pairs = zip(self.classes, self.probabilities, strict=True)
        return f"{self.image}: " + ", ".join(f"{name} {p:.3f}" for name, p in pairs)

    def figure(self) -> Any:
        """Bars of the best few."""
        from wildsight.report.plots import bars

        rows = dict(zip(self.classes, self.probabilities, strict=True))
        return bars({k: (v, 0.0) for k, v in rows.items()}, str(self.image or self.label))


def candidate_groups(
    learned: Sequence[Mapping[str, Any]],
    task: str | None,
    classes: Sequence[str] | None,
    templates: Sequence[str],
) -> list[tuple[str, list[str], list[str]]]:
    """(task, classes, templates) among which a picture is named.

    Args:
        learned: the learned tasks, each with ``name``, ``classes`` and ``templates``.
        task: one of them; None for all.
        classes: names given by hand, in place of those learned, with their ``templates``.
        templates: each with ``{}``.

    Raises:
        ConfigError: there is none.
    """
    if classes is not None:
        return [("", list(classes), list(templates))]
    groups = [(t["name"], list(t["classes"]), list(t["templates"])) for t in learned]
    groups = [g for g in groups if task in (None, g[0])]
    if not groups:
        text = f"no task called {task!r} was learned" if task else "nothing was learned yet"
        raise ConfigError(text, hint="call update first, or name classes")
    return groups


def results_of(
    files: Sequence[Path | None], names: Sequence[tuple[str, str]], scores: Tensor, top: int
) -> list[ContinualResult]:
    """One result per picture.

    Args:
        files: the pictures.
        names: (class, task) of the candidates.
        scores: probabilities [B, K].
        top: best answers to list, >= 1.

    Raises:
        ConfigError: ``top`` below 1.
    """
    if top < 1:
        raise ConfigError(f"top={top}", hint="give 1 or more")
    best = scores.topk(min(top, len(names)), dim=1)
    results = []
    for file, values, rows in zip(files, best.values.tolist(), best.indices.tolist(), strict=True):
        label, task = names[rows[0]]
        listed = tuple(names[i][0] for i in rows)
        results.append(ContinualResult(file, label, task, values[0], listed, tuple(values)))
    return results


@dataclass(frozen=True, kw_only=True)
class ContinualEvaluation(Evaluation):
    """Accuracies in percent: a row per task with ``task``, ``accuracy`` and ``pictures``, then their mean.

    Pictures that could not be read count as wrong; ``errors`` names them.

    Attributes:
        accuracy: task -> top-1 on its test pictures.
        scenario: ``task`` or ``class``; see `TaskSequence`.
        counts: task -> number of test pictures.
    """

    accuracy: Mapping[str, float]
    scenario: str
    counts: Mapping[str, int]

    group: ClassVar[str] = "task"
    caption: ClassVar[str] = "Top-1 accuracy in percent; tasks weigh equally in the mean"

    @classmethod
    def of(
        cls,
        accuracy: Mapping[str, float],
        counts: Mapping[str, int],
        scenario: str,
        errors: Sequence[str] = (),
        protocol: Mapping[str, Any] | None = None,
    ) -> Self:
        """The evaluation of some tasks."""
        rows = [{"task": n, "accuracy": v, "pictures": counts[n]} for n, v in accuracy.items()]
        mean = sum(accuracy.values()) / len(accuracy)
        overall = {"task": "mean", "accuracy": mean, "pictures": sum(counts.values())}
        return cls(
            rows=[*rows, overall],
            errors=list(errors),
            protocol=dict(protocol or {}),
            accuracy=accuracy,
            scenario=scenario,
            counts=counts,
        )

    @property
    def mean(self) -> float:
        """Of the tasks' accuracies."""
        return float(self.overall["accuracy"])

    def table(self) -> Table:
        """Tasks down, accuracy across."""
        body = [[row["task"], f"{row['accuracy']:.1f}", row["pictures"]] for row in self.rows]
        return Table(["task", "accuracy %", "pictures"], body)

    def show(self, report: Report) -> None:
        """The tasks' accuracies as bars."""
        from wildsight.report.plots import bars

        report.figure(bars({n: (v, 0.0) for n, v in self.accuracy.items()}, "top-1 accuracy, percent"))


@dataclass(frozen=True)
class Update:
    """What learning one task did.

    Attributes:
        task: its name.
        accepted: False: the guard set fell too far, and the old model still serves.
        reason: why it was refused; empty otherwise.
        guard: probe task -> (accuracy before, after), percent; empty without a guard set.
        first: probe task -> accuracy when it was first measured, before any guarded update.
        accuracy: the row of the accuracy matrix: task -> percent.
        weights: [N, 2] teacher weights (first model, previous model) per training picture; empty for
            methods that have none, and for a task that was loaded.
        shares: of those weights, ``mean`` (of each teacher) and ``counts``: how many pictures have the first
            model's weight in each of `BINS` equal parts of [0, 1]; kept for a task that was loaded.
        drift: class -> cosine between its prototype before and after the task.
        curve: loss per epoch.
        seconds: ``prepare`` (caches) and ``train``.
        resumed: True when the task had been learned before and was loaded.
    """

    task: str
    accepted: bool
    reason: str = ""
    guard: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    accuracy: Mapping[str, float] = field(default_factory=dict)
    weights: Sequence[Sequence[float]] = ()
    drift: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[float] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    resumed: bool = False
    first: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.weights) and not self.shares:
            object.__setattr__(self, "shares", _shares(self.weights))

    @classmethod
    def recorded(cls, task: str, record: Mapping[str, Any], accuracy: Mapping[str, float]) -> Self:
        """The update of a task that was learned before, from what `to_dict` wrote then, if anything."""
        return cls(
            task,
            True,
            guard={k: (v[0], v[1]) for k, v in record.get("guard", {}).items()},
            accuracy=accuracy,
            drift=record.get("drift", {}),
            curve=record.get("loss", ()),
            seconds=record.get("seconds", {}),
            resumed=True,
            first=record.get("guard_first", {}),
            shares=record.get("teacher_weights", {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; teacher weights as their mean and histogram."""
        from wildsight.results import summarised

        return {
            "task": self.task,
            "accepted": self.accepted,
            "reason": self.reason,
            "guard": summarised({k: list(v) for k, v in self.guard.items()}),
            "guard_first": summarised(dict(self.first)),
            "accuracy": summarised(dict(self.accuracy)),
            "teacher_weights": summarised(dict(self.shares)),
            "drift": summarised(dict(self.drift)),
            "loss": summarised(list(self.curve)),
            "seconds": summarised(dict(self.seconds)),
        }


def _shares(weights: Sequence[Sequence[float]]) -> dict[str, Sequence[float]]:
    """Mean of each teacher's weight, and the histogram of the first one's."""
    mean = [sum(column) / len(weights) for column in zip(*weights, strict=True)]
    counts = [0] * BINS
    for row in weights:
        counts[min(BINS - 1, max(0, int(row[0] * BINS)))] += 1
    return {"mean": mean, "counts": counts}
