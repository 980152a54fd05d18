"""LwF and LwF-VR: the previous model's answers on the task's own pictures are distillation.

Paper: 1606.09282 and 2207.09248, as ZSCL's benchmark runs them: ``L = L_ce + KD(f_p T^T, f T^T) + KD`` of the
transposed logits, ``KD(t, s) = tau^2 CE(softmax(t / tau), s / tau)``, tau 2. Both sides use the teacher's
text rows T, so that the text tower gets no gradient from KD. T: the class texts (LwF), or random token
sentences (LwF-VR, 1000 of length 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.objective import SMOOTHING, Objective, StudentBatch, distilled, task_loss
from wildsight.continual.settings import ranged


def answer_distillation(
    teacher: Tensor, student: Tensor, text: Tensor, scale: float, tau: float, weights: tuple[float, float]
) -> Tensor:
    """Distillation of picture-to-text logits and of their transpose.

    Args:
        teacher, student: unit rows [B, D].
        text: the teacher's text rows [M, D], used on both sides.
        scale: s.
        tau: temperature.
        weights: of the two directions.
    """
    target, given = scale * teacher @ text.T, scale * student @ text.T
    return weights[0] * distilled(target, given, tau) + weights[1] * distilled(target.T, given.T, tau)


class LwFObjective(Objective):
    """``L_ce + L_kd`` on the task's pictures."""

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """The sum and its parts."""
        config, scale = self.config, self.targets.scale
        task = task_loss(batch.image, batch.text, batch.labels, scale, config.smoothing)
        weights = (config.image, config.text)
        distillation = answer_distillation(
            batch.previous_image, batch.image, self._texts(batch), scale, config.tau, weights
        )
        return {"loss": task + distillation, "task": task, "kd": distillation}

    def _texts(self, batch: StudentBatch) -> Tensor:
        return self.targets.previous_text.to(batch.image)


class LwFVRObjective(LwFObjective):
    """LwF on random sentences in place of the class texts."""

    needs: ClassVar[frozenset[str]] = frozenset({"random"})

    def _texts(self, batch: StudentBatch) -> Tensor:
        rows = self.targets.random_tokens
        return super()._texts(batch) if rows is None else rows[1].to(batch.image)


@METHODS.register("lwf")
@dataclass(frozen=True)
class LwF(ContinualMethod):
    """LwF with its hyper-parameters."""

    title = "LwF"
    objective = LwFObjective

    tau: float = 2.0
    """Distillation temperature, > 0."""
    image: float = 1.0
    """Weight of the picture-to-text direction, >= 0."""
    text: float = 1.0
    """Weight of the text-to-picture direction, >= 0."""
    smoothing: float = SMOOTHING
    """Label smoothing, in [0, 1)."""

    def __post_init__(self) -> None:
        ranged(self, tau="positive", image="weight", text="weight", smoothing="smoothing")


@METHODS.register("lwf-vr")
@dataclass(frozen=True)
class LwFVR(LwF):
    """LwF-VR; hyper-parameters as `LwF`."""

    title = "LwF-VR"
    objective = LwFVRObjective
