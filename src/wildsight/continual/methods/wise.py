"""WiSE-FT: fine-tuning, then a mean of the weights before and after.

Paper: 2109.01903. ``theta <- alpha theta + (1 - alpha) theta_before``, alpha 0.8 after each task.
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.continual.methods import METHODS
from wildsight.continual.methods.finetune import FineTuning, FineTuningObjective
from wildsight.continual.objective import Weights, blended
from wildsight.continual.settings import ranged


class WiseFTObjective(FineTuningObjective):
    """``L_ce``, then the mean."""

    def merged(self, before: Weights, after: Weights) -> Weights:
        """``alpha after + (1 - alpha) before``."""
        return blended(before, after, self.config.alpha)


@METHODS.register("wise-ft")
@dataclass(frozen=True)
class WiseFT(FineTuning):
    """WiSE-FT with its hyper-parameters."""

    title = "WiSE-FT"
    objective = WiseFTObjective

    alpha: float = 0.8
    """Share of the trained weights, in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ranged(self, alpha="share")
