"""ZSCL and ZSCL*: the first model's answers on an outside corpus are kept, and weights are averaged.

Paper: 2303.06628. ``L = L_ce + KD(f_0 T^T, f T^T) + KD`` of the transpose, on reference pictures and
captions T of the first model, + l2 ``||theta - theta_start||^2`` (ZSCL alone); running mean of the weights
every ``avg_freq`` steps, the first after the first step, as released.

Differences: 1. the first model encodes the corpus once, not each step: the same numbers (``hoist=False``:
each step again, to compare the cost). 2. the corpus is the caller's (the paper's: ImageNet and the
captions of Conceptual Captions' validation list). 3. the last snapshot is that of the last step; the released
loop makes one step more than it is asked for and takes it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wildsight.continual.distillation_targets import DistillationTargets, Reference
from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.methods.lwf import answer_distillation
from wildsight.continual.objective import SMOOTHING, Objective, StudentBatch, task_loss
from wildsight.continual.settings import ranged
from wildsight.errors import ConfigError


def distance_to(start: dict[str, Tensor], student: nn.Module) -> Tensor:
    """Sum of squared differences over all trained weights."""
    terms = [(w - start[n].to(w)).square().sum() for n, w in student.named_parameters() if n in start]
    return torch.stack(terms).sum()


class ZSCLObjective(Objective):
    """``L_ce``, KD on the corpus, and the distance to the start."""

    needs: ClassVar[frozenset[str]] = frozenset({"reference"})
    teachers: ClassVar[bool] = False
    average_first: ClassVar[bool] = True

    def __init__(self, config: Any, targets: DistillationTargets) -> None:
        super().__init__(config, targets)
        every = config.avg_freq
        self.average_every = max(1, min(100, targets.steps // 10)) if every is None else every or None
        self.start: dict[str, Tensor] = {}

    def begin(self, student: nn.Module) -> None:
        """Keep the weights that the task starts with."""
        if self.config.l2:
            self.start = {n: w.detach().clone() for n, w in student.named_parameters() if w.requires_grad}

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """The sum and its parts."""
        config, scale, corpus = self.config, self.targets.scale, self._corpus()
        task = task_loss(batch.image, batch.text, batch.labels, scale, config.smoothing)
        count = min(config.batch, len(corpus.pixels))
        chosen = torch.randint(len(corpus.pixels), (count,), generator=batch.draw)
        student = batch.encode_images(corpus.pixels[chosen])
        texts = self._texts(corpus).to(student)
        distillation = answer_distillation(
            corpus.zero_image[chosen].to(student),
            student,
            texts,
            scale,
            config.tau,
            (config.image, config.text),
        )
        far = config.l2 * distance_to(self.start, batch.student) if config.l2 else torch.zeros_like(task)
        return {"loss": task + distillation + far, "task": task, "kd": distillation, "l2": far}

    def _corpus(self) -> Reference:
        if self.targets.reference is None:
            raise ConfigError("zscl needs a reference corpus", hint="give the setting reference")
        return self.targets.reference

    def _texts(self, corpus: Reference) -> Tensor:
        """The captions' rows; encoded anew by the first model where ``hoist`` is off."""
        if self.config.hoist or self.targets.live is None or corpus.tokens is None:
            return corpus.zero_text
        with torch.no_grad():
            rows: Tensor = self.targets.live[0].encode_tokens(corpus.tokens)
        return rows


@METHODS.register("zscl")
@dataclass(frozen=True)
class ZSCL(ContinualMethod):
    """ZSCL with its hyper-parameters."""

    title = "ZSCL"
    objective = ZSCLObjective

    tau: float = 2.0
    """Distillation temperature, > 0."""
    image: float = 1.0
    """Weight of the picture-to-text direction, >= 0."""
    text: float = 1.0
    """Weight of the text-to-picture direction, >= 0."""
    l2: float = 1.0
    """Weight of the distance to the start, >= 0; 0 is ZSCL*."""
    batch: int = 64
    """Reference pictures per step, >= 1."""
    avg_freq: int | None = None
    """Steps between snapshots, 0 for none; None: a tenth of the task, at most 100."""
    smoothing: float = SMOOTHING
    """Label smoothing, in [0, 1)."""
    hoist: bool = True
    """Encode the captions once."""

    def __post_init__(self) -> None:
        ranged(self, tau="positive", image="weight", text="weight", l2="weight", batch="count")
        ranged(self, smoothing="smoothing", **({} if self.avg_freq is None else {"avg_freq": "steps"}))

    @property
    def live(self) -> bool:
        """Where the captions are encoded anew in every step, the first model has to be there."""
        return not self.hoist


@METHODS.register("zscl-star")
@dataclass(frozen=True)
class ZSCLStar(ZSCL):
    """ZSCL*: `ZSCL` without the distance to the start."""

    title = "ZSCL*"

    l2: float = 0.0
    """Weight of the distance to the start, >= 0."""
