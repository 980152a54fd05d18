"""The trained model of one task, its step, and its run through the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.continual.objective import Objective, RunningMean, StudentBatch, Weights
from wildsight.continual.pictures import Pictures, cropped
from wildsight.continual.towers import Towers
from wildsight.training import Batch, History, TrainConfig, train
from wildsight.training.batches import mix


class Student(nn.Module):
    """Towers, objective and running mean together: what a killed task saves is all there is.

    Args:
        towers: trained in place.
        objective: of this task.
        tokens: [K, L] ids of the training prompts.
        crop: least share of a random crop.
    """

    done: Tensor

    def __init__(self, towers: Towers, objective: Objective, tokens: Tensor, crop: float) -> None:
        super().__init__()
        self.towers, self.objective, self.tokens, self.crop = towers, objective, tokens, crop
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        every = objective.average_every
        self.average = RunningMean(self.trained()) if every else None
        objective.begin(towers)

    def trained(self) -> Weights:
        """The weights that move, by name."""
        return {n: w for n, w in self.towers.named_parameters() if w.requires_grad}

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows of normalised pixels and of token ids."""
        rows: tuple[Tensor, Tensor] = self.towers(pixels, tokens)
        return rows

    def snapshot(self, last: bool = False) -> None:
        """Take the weights into the running mean when it is time; called before each step and at the end.

        ZSCL's release makes one step more than it is asked for, so that its last snapshot falls on it; here
        the last step is that one.
        """
        every, done, first = self.objective.average_every, int(self.done), self.objective.average_first
        if self.average is None or not every or not done:
            return
        if (done - first) % every == 0 or (last and done % every == 0):
            self.average.add(self.trained())

    def step(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The losses of one batch."""
        self.snapshot()
        self.done += 1
        canonical = self.towers.normalised(batch.data["pixels"])
        pixels = cropped(canonical, self.crop, batch.seed, batch.epoch, batch.index)
        image, text = model(pixels, self.tokens.to(pixels.device))
        zero, previous = self._teachers(pixels, batch.index)
        draw = torch.Generator().manual_seed(mix(batch.seed, batch.epoch, int(batch.index[0]), 11))
        views = StudentBatch(
            image=image,
            text=text,
            labels=batch.data["label"],
            index=batch.index,
            zero_image=zero.to(image),
            previous_image=previous.to(image),
            encode_images=lambda raw: self.towers.encode_images(
                self.towers.normalised(raw.to(pixels.device))
            ),
            encode_tokens=self.towers.encode_tokens,
            student=self.towers,
            draw=draw,
        )
        losses: dict[str, Tensor] = self.objective(views)
        return losses

    def _teachers(self, pixels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The teachers' rows of the batch: cached, or from the teachers themselves."""
        targets = self.objective.targets
        if targets.live is None or not self.objective.teachers:
            rows = index.cpu()
            return targets.zero_image[rows], targets.previous_image[rows]
        with torch.no_grad():
            zero, previous = (teacher.to(pixels.device).encode_images(pixels) for teacher in targets.live)
        return zero, previous

    def finished(self, before: Weights) -> Weights:
        """The weights after the task: averaged within it where the method does, then merged with
        ``before``."""
        self.snapshot(last=True)
        after = {n: w.detach().clone() for n, w in self.towers.named_parameters()}
        if self.average is not None:
            after |= self.average.restored(self.trained())
        return self.objective.merged(before, after)


@dataclass(frozen=True)
class Run:
    """How a task is trained.

    Attributes:
        config: settings of the loop.
        folder: of the training state; None keeps none.
        progress: whether progress is shown.
        label: name in the progress line.
        extra: what else a killed run has to agree on to go on in that folder.
        device: where it runs.
    """

    config: TrainConfig
    folder: Path | None
    progress: bool
    label: str
    extra: Mapping[str, Any]
    device: torch.device


def run_task(student: Student, pictures: Pictures, run: Run) -> History:
    """Train the student in place; a killed run with the same folder goes on there."""
    return train(
        student,
        pictures,
        student.step,
        run.config,
        folder=run.folder,
        progress=run.progress,
        label=run.label,
        extra=run.extra,
        device=run.device,
    )


def weights_of(towers: Towers) -> Weights:
    """All weights by name, detached."""
    return {n: w.detach() for n, w in towers.named_parameters()}


@torch.no_grad()
def put(towers: Towers, weights: dict[str, Any]) -> None:
    """Copy weights into the towers."""
    for name, weight in towers.named_parameters():
        if name in weights:
            weight.copy_(weights[name].to(weight))
