"""Fine-tuning: the task's loss alone.

Equation: ``L = CE(s f G^T, y)`` with label smoothing, all weights but the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.objective import SMOOTHING, Objective, StudentBatch, task_loss
from wildsight.continual.settings import ranged


class FineTuningObjective(Objective):
    """``L_ce``."""

    teachers: ClassVar[bool] = False

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """The task's loss."""
        smoothing = self.config.smoothing
        return {"loss": task_loss(batch.image, batch.text, batch.labels, self.targets.scale, smoothing)}


@METHODS.register("finetune")
@dataclass(frozen=True)
class FineTuning(ContinualMethod):
    """Fine-tuning with its hyper-parameters."""

    title = "fine-tuning"
    objective = FineTuningObjective

    smoothing: float = SMOOTHING
    """Label smoothing, in [0, 1)."""

    def __post_init__(self) -> None:
        ranged(self, smoothing="smoothing")
