"""The task's methods: a file each, registered by name. `ContinualMethod` is what the learner drives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from wildsight.continual.distillation_targets import DistillationTargets
from wildsight.continual.objective import Objective, Weights
from wildsight.continual.student import put
from wildsight.continual.towers import Towers
from wildsight.continual.variants import ABLATIONS
from wildsight.estimators.registry import Registry


@dataclass(frozen=True)
class ContinualMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values."""

    title: ClassVar[str]
    """Name for tables."""
    objective: ClassVar[type[Objective]]
    """Its loss."""

    @property
    def trained(self) -> bool:
        """True when it learns by gradient."""
        return self.objective.trains

    @property
    def live(self) -> bool:
        """Whether the teachers themselves are needed in every step, whatever the teacher view."""
        return False

    @property
    def memory_size(self) -> int:
        """Pictures of earlier tasks that it keeps."""
        return 0

    def objective_for(self, targets: DistillationTargets) -> Objective:
        """The loss of one task."""
        return self.objective(self, targets)

    def adapt(self, towers: Towers, seed: int) -> None:
        """Change the model before a task is trained, such as by adapters; nothing here."""

    def finish(self, towers: Towers, merged: Callable[[], Weights]) -> None:
        """Bring the trained model into the form that is served.

        Args:
            towers: the trained model.
            merged: the weights after the task, as the objective merges them with those before.
        """
        put(towers, merged())


METHODS: Registry[ContinualMethod] = Registry(
    "method",
    "wildsight.continual.methods",
    order=(
        "mulki", "zeroshot", "finetune", "lwf", "lwf-vr", "wise-ft", "icarl", "zscl-star", "zscl", "snd",
        "lora",
    ),
)  # fmt: skip
METHODS.add_presets("mulki", ABLATIONS)
