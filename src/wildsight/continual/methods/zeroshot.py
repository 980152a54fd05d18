"""Zero-shot: the first model, never trained; the template ensemble answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.objective import Objective, StudentBatch


class ZeroShotObjective(Objective):
    """Nothing to train: the learner asks ``trains`` first."""

    trains: ClassVar[bool] = False
    teachers: ClassVar[bool] = False

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """A loss of zero."""
        return {"loss": batch.image.new_zeros(())}


@METHODS.register("zeroshot")
@dataclass(frozen=True)
class ZeroShot(ContinualMethod):
    """The first model as it is; it has no hyper-parameters."""

    title = "zero-shot"
    objective = ZeroShotObjective
