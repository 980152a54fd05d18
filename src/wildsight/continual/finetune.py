"""Fine-tuning: the task's loss alone.

Equation: ``L = CE(s f G^T, y)`` with label smoothing, all weights but the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wildsight.continual.objective import SMOOTHING, Objective, Seen, task_loss
from wildsight.continual.settings import ranged


@dataclass(frozen=True)
class FineTuning:
    """``smoothing``: label smoothing, in [0, 1)."""

    smoothing: float = SMOOTHING

    def __post_init__(self) -> None:
        ranged(self, smoothing="smoothing")


class FineTuningObjective(Objective):
    """``L_ce``."""

    teachers: ClassVar[bool] = False

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """The task's loss."""
        smoothing = self.config.smoothing
        return {"loss": task_loss(seen.image, seen.text, seen.labels, self.lesson.scale, smoothing)}
