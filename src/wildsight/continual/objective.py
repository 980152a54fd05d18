"""What a method of the task is: a loss on one batch, and what happens to the weights when a task ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from wildsight.continual.distillation_targets import DistillationTargets

Weights = dict[str, Tensor]
SMOOTHING = 0.2


@dataclass(frozen=True)
class StudentBatch:
    """One batch in the student's features, beside the teachers' rows.

    Attributes:
        image: f_i, unit rows [B, D], with gradient.
        text: G_i, unit rows [K, D], with gradient.
        labels: [B], and ``index``: [B] positions in the task.
        zero_image, previous_image: the teachers' rows of the same pictures, [B, D].
        encode_images: uint8 pixels -> unit rows with gradient, and ``encode_tokens``.
        student: the trained module, for penalties on weights.
        draw: a generator of this step's own, for batches from a corpus.
    """

    image: Tensor
    text: Tensor
    labels: Tensor
    index: Tensor
    zero_image: Tensor
    previous_image: Tensor
    encode_images: Callable[[Tensor], Tensor]
    encode_tokens: Callable[[Tensor], Tensor]
    student: nn.Module
    draw: torch.Generator = field(default_factory=torch.Generator)


def task_loss(image: Tensor, text: Tensor, labels: Tensor, scale: float, smoothing: float) -> Tensor:
    """``CE(s f G^T, y)`` with label smoothing."""
    return functional.cross_entropy(scale * image @ text.T, labels, label_smoothing=smoothing)


def distilled(teacher: Tensor, student: Tensor, tau: float) -> Tensor:
    """``tau^2 CE(softmax(t / tau), s / tau)`` over rows of logits, the mean over rows."""
    target = (teacher / tau).softmax(-1)
    return tau * tau * functional.cross_entropy(student / tau, target)


class Objective(nn.Module, ABC):
    """Base of the methods. Its buffers are part of the training state, so that a killed task resumes.

    Attributes:
        needs: what the targets have to hold: of ``reference``, ``memory``, ``random``.
        teachers: whether the teachers' image rows are used at all; without it no cache is filled.
        average_every: steps between snapshots of the running mean of the weights; None for none.
        average_first: whether the first snapshot is that after the first step, as ZSCL's release takes it:
            after 1, 1 + every, 1 + 2 every ... steps and at the end; otherwise after every, 2 every ...
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    teachers: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    average_every: int | None = None
    average_first: ClassVar[bool] = False

    def __init__(self, config: Any, targets: DistillationTargets) -> None:
        super().__init__()
        self.config, self.targets = config, targets

    def begin(self, student: nn.Module) -> None:
        """Called once with the weights that the task starts with, also when a killed task resumes."""

    @abstractmethod
    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """Logged scalars with ``loss``."""

    def merged(self, before: Weights, after: Weights) -> Weights:
        """The weights that go on, from those before the task and those after it."""
        return blended(before, after, 1.0)

    def teacher_weights(self) -> Tensor:
        """[N, 2] weights of (first, previous) teacher per training picture; [0, 2] where there are none."""
        return torch.zeros(0, 2)

    def drift(self) -> Tensor:
        """[K] cosine of each class's prototype now with the one at the start; [0] where there are none."""
        return torch.zeros(0)


def blended(before: Weights, after: Weights, alpha: float) -> Weights:
    """``alpha after + (1 - alpha) before`` of the weights; the scale and integers are copied from
    ``after``."""
    return {
        name: value
        if "logit_scale" in name or not value.is_floating_point() or name not in before
        else alpha * value + (1 - alpha) * before[name].to(value)
        for name, value in after.items()
    }


class RunningMean(nn.Module):
    """The mean of the weights over snapshots; the first is the weights that the task began with.

    ``mean <- (n mean + theta) / (n + 1)``
    """

    mean: Tensor
    count: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.cat([w.detach().flatten() for w in weights.values()]))
        self.register_buffer("count", torch.ones((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, weights: Mapping[str, Tensor]) -> None:
        """One snapshot more."""
        n, start = int(self.count), 0
        for value in weights.values():
            part = self.mean[start : start + value.numel()]
            part.mul_(n / (n + 1)).add_(value.detach().flatten().to(part), alpha=1 / (n + 1))
            start += value.numel()
        self.count += 1

    def restored(self, weights: Mapping[str, Tensor]) -> Weights:
        """The mean in the shapes of ``weights``."""
        parts = self.mean.split([w.numel() for w in weights.values()])
        return {n: p.view_as(w).clone() for (n, w), p in zip(weights.items(), parts, strict=True)}
