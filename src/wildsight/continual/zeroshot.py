"""Zero-shot: the first model, never trained; the template ensemble answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wildsight.continual.objective import Objective, Seen


@dataclass(frozen=True)
class ZeroShot:
    """It has no hyper-parameters."""


class ZeroShotObjective(Objective):
    """Nothing to train: the learner asks ``trains`` first."""

    trains: ClassVar[bool] = False
    teachers: ClassVar[bool] = False

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """A loss of zero."""
        return {"loss": seen.image.new_zeros(())}
