"""SnD, Select and Distill: two teachers on an outside corpus, selected by how far apart they are.

Paper: 2403.09296. ``L = L_ce + 9 w_p ||f - f_p|| + 0.5 (1 - w_p) ||f - f_0||`` on reference pictures, the
norm not squared, ``w_p = sigmoid(6 (||f_0 - f_p|| - 0.2))``.

Differences: 1. the reference pictures' rows come from the cache of the test view. 2. the task's recipe trains
it, as every method: no weight decay (the paper's code: 5e-4) and whole passes (10, at most 1000 steps);
``weight_decay=5e-4`` and ``epochs`` undo the first and approach the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.objective import SMOOTHING, Objective, StudentBatch, task_loss
from wildsight.continual.settings import ranged
from wildsight.errors import ConfigError


def selected(zero: Tensor, previous: Tensor, slope: float, offset: float) -> Tensor:
    """``w_p``: share of the previous teacher per row, [B]."""
    return torch.sigmoid(slope * ((zero - previous).norm(dim=-1) - offset))


def selective_loss(student: Tensor, zero: Tensor, previous: Tensor, config: SnD) -> Tensor:
    """The weighted distances to both teachers, mean over rows; the gradient at distance 0 is 0."""
    share = selected(zero, previous, config.slope, config.offset)
    near = config.previous * share * _distance(student, previous)
    return (near + config.zero * (1 - share) * _distance(student, zero)).mean()


def _distance(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().sum(-1).add(1e-12).sqrt()


class SnDObjective(Objective):
    """``L_ce`` on the task, distances on the corpus."""

    needs: ClassVar[frozenset[str]] = frozenset({"reference"})
    teachers: ClassVar[bool] = False

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """The sum and its parts."""
        corpus = self.targets.reference
        if corpus is None:
            raise ConfigError("snd needs a reference corpus", hint="give the setting reference")
        task = task_loss(batch.image, batch.text, batch.labels, self.targets.scale, self.config.smoothing)
        count = min(self.config.batch, len(corpus.pixels))
        chosen = torch.randint(len(corpus.pixels), (count,), generator=batch.draw)
        student = batch.encode_images(corpus.pixels[chosen])
        rows = (corpus.zero_image[chosen].to(student), corpus.previous_image[chosen].to(student))
        distillation = selective_loss(student, *rows, self.config)
        return {"loss": task + distillation, "task": task, "kd": distillation}


@METHODS.register("snd")
@dataclass(frozen=True)
class SnD(ContinualMethod):
    """Select and Distill with its hyper-parameters."""

    title = "SnD"
    objective = SnDObjective

    previous: float = 9.0
    """Weight of the previous model's rows, >= 0."""
    zero: float = 0.5
    """Weight of the first model's rows, >= 0."""
    slope: float = 6.0
    """Slope of the selection."""
    offset: float = 0.2
    """Distance at which both teachers count the same."""
    batch: int = 32
    """Reference pictures per step, >= 1."""
    smoothing: float = SMOOTHING
    """Label smoothing, in [0, 1)."""

    def __post_init__(self) -> None:
        ranged(self, previous="weight", zero="weight", slope="finite", offset="finite")
        ranged(self, batch="count", smoothing="smoothing")
