"""iCaRL: a memory of earlier pictures keeps the previous model's answers alive.

Paper: 1611.07725, as ZSCL's benchmark runs it: ``L = L_ce + KD`` on memory pictures with the current task's
texts; later tasks are herded to the mean feature, class-agnostic.

Differences: 1. the teacher is the previous model (the MTIL code takes the first one by default).
2. the newest task's quota never exceeds the budget (the reference's can).
The first 30,000 pictures of a task are herded, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.methods.lwf import answer_distillation
from wildsight.continual.objective import SMOOTHING, Objective, StudentBatch, task_loss
from wildsight.continual.pictures import Pictures
from wildsight.continual.settings import ranged

HERDED = 30_000


def herded(features: Tensor, count: int) -> Tensor:
    """Positions whose running mean follows the mean of unit rows [N, D] best, greedily: [min(count, N)]."""
    target, total = features.mean(0), torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool)
    chosen: list[int] = []
    for n in range(min(count, len(features))):
        gap = ((total + features) / (n + 1) - target).norm(dim=-1)
        best = int(gap.masked_fill(~free, torch.inf).argmin())
        chosen.append(best)
        free[best] = False
        total = total + features[best]
    return torch.tensor(chosen, dtype=torch.int64)


def quotas(tasks: int, budget: int) -> int:
    """Pictures per learned task.

    >>> quotas(3, 10)
    3
    """
    return budget // max(1, tasks)


def remembered(
    memory: Sequence[Tensor], pictures: Pictures, embed: Callable[[Tensor], Tensor], budget: int
) -> list[Tensor]:
    """The memory with one task more: uint8 [M, S, S, 3] per task, within one budget.

    Args:
        memory: of the tasks before; while it is empty, the first pictures are kept, later the herded ones.
        pictures: of the new task; no more than a batch of them is held beside those that are kept.
        embed: uint8 pixels -> unit rows.
        budget: pictures over all tasks.
    """
    each = quotas(len(memory) + 1, budget)
    kept = list(range(min(each, len(pictures))))
    if memory:
        kept = herded(torch.cat([embed(batch) for batch in pictures.batches()]), each).tolist()
    return [part[:each] for part in memory] + [torch.stack([pictures.pixels(i) for i in kept])]


class ICaRLObjective(Objective):
    """``L_ce`` on the task and KD on the memory."""

    needs: ClassVar[frozenset[str]] = frozenset({"memory"})

    def forward(self, batch: StudentBatch) -> dict[str, Tensor]:
        """The sum and its parts; the task's loss alone while the memory is empty."""
        config, scale = self.config, self.targets.scale
        task = task_loss(batch.image, batch.text, batch.labels, scale, config.smoothing)
        if self.targets.memory is None:
            return {"loss": task, "task": task, "kd": torch.zeros_like(task)}
        pixels, rows = self.targets.memory
        chosen = torch.randint(len(pixels), (min(config.batch, len(pixels)),), generator=batch.draw)
        student = batch.encode_images(pixels[chosen])
        texts = self.targets.previous_text.to(student)
        distillation = answer_distillation(
            rows[chosen].to(student), student, texts, scale, config.tau, (1.0, 1.0)
        )
        return {"loss": task + distillation, "task": task, "kd": distillation}


@METHODS.register("icarl")
@dataclass(frozen=True)
class ICaRL(ContinualMethod):
    """iCaRL with its hyper-parameters."""

    title = "iCaRL"
    objective = ICaRLObjective

    memory: int = 10000
    """Pictures kept over all tasks, >= 1."""
    batch: int = 64
    """Memory pictures per step, >= 1."""
    tau: float = 2.0
    """Distillation temperature, > 0."""
    smoothing: float = SMOOTHING
    """Label smoothing, in [0, 1)."""

    def __post_init__(self) -> None:
        ranged(self, memory="count", batch="count", tau="positive", smoothing="smoothing")

    @property
    def memory_size(self) -> int:
        """Pictures of earlier tasks that it keeps."""
        return self.memory
