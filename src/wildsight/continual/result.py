"""What the continual task answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from wildsight.results import Result

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

    def figure(self) -> Any:
        """Bars of the best few."""
        from wildsight.report.plots import bars

        rows = dict(zip(self.classes, self.probabilities, strict=True))
        return bars({k: (v, 0.0) for k, v in rows.items()}, str(self.image or self.label))


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent.

    Attributes:
        accuracy: task -> top-1 on its test pictures.
        mean: of ``accuracy``, tasks weigh equally.
        scenario: ``task`` or ``class``; see `TaskSequence`.
        counts: task -> number of test pictures.
        errors: pictures that could not be read; they count as wrong.
    """

    accuracy: Mapping[str, float]
    mean: float
    scenario: str
    counts: Mapping[str, int]
    errors: Sequence[str] = ()


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
        """The update of a task that stands, from what `to_dict` wrote when it was learned, if anything."""
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
