"""The shared classifier alone: cross-entropy over the training classes, no metric loss (a control)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wildsight.retrieval.learner import Learner, Plan, TermLearner
from wildsight.retrieval.methods import METHODS, TrainedMethod


@METHODS.register("classes")
@dataclass(frozen=True, kw_only=True)
class Classes(TrainedMethod):
    """The cross-entropy that every method has, with its hyper-parameters."""

    title = "cross-entropy alone"

    def learner(self, plan: Plan, features: Tensor, modality: Tensor) -> Learner:  # noqa: ARG002
        """A learner whose metric loss is 0."""
        return TermLearner(plan, lambda z, _: z.new_zeros(()))
