"""One task trained into one model: caches, loss, training, merge. The served model is only read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildsight.continual.distillation_targets import make_targets, read_reference
from wildsight.continual.methods import ContinualMethod
from wildsight.continual.objective import Objective
from wildsight.continual.pictures import Open, Pictures
from wildsight.continual.schedule import steps_of, task_schedule
from wildsight.continual.settings import LearnerSettings
from wildsight.continual.student import Run, Student, run_task, weights_of
from wildsight.continual.tasks import TaskData
from wildsight.continual.towers import Towers
from wildsight.training import TrainConfig


@dataclass(frozen=True)
class TaskTraining:
    """How a task is trained.

    Attributes:
        method: with its hyper-parameters.
        settings: of the learner.
        first: nothing was learned before, so that both teachers are the same.
        zero: reads the first model.
        memory: pixels of earlier tasks' pictures, for the methods that keep some.
        before: what the model was made from: its base and what it learned, for resuming.
    """

    method: ContinualMethod
    settings: LearnerSettings
    first: bool
    zero: Callable[[], Towers]
    memory: Sequence[Tensor]
    before: Mapping[str, Any]

    def train(
        self,
        grown: Towers,
        task: TaskData,
        folder: Path | None,
        progress: bool,
        open_file: Open,
        training: Mapping[str, Any],
    ) -> tuple[Towers, dict[str, Any]]:
        """The candidate model, and what its training leaves: fields of `Update`.

        Args:
            grown: the model before the task, with the words of the task.
            task: what to learn.
            folder: of the training state.
            progress: show progress.
            open_file: how a file becomes a picture.
            training: fields of `TrainConfig` that the caller sets.
        """
        if not self.method.trained:
            return grown, {}
        begin = time.perf_counter()
        pictures = Pictures(task.train, grown.pixels, open_file)
        count = sum(w.numel() for w in grown.parameters())
        config = task_schedule(count, len(pictures), {"seed": self.settings.seed, **training}, task.recipe)
        objective = self._objective(grown, task, pictures, config)
        student = self._student(grown, task, objective)
        prepared = time.perf_counter()
        history = run_task(student, pictures, self._run(config, task, folder, progress, grown.device))
        before = weights_of(grown)
        self.method.finish(student.towers, lambda: student.finished(before))
        candidate = student.towers.to(grown.device).eval()
        drift = objective.drift().tolist()
        facts = {
            "weights": objective.teacher_weights().tolist(),
            "drift": dict(zip(task.classes, drift, strict=True)) if drift else {},
            "curve": history.curve("loss"),
            "seconds": {"prepare": prepared - begin, "train": history.seconds},
        }
        return candidate, facts

    def _run(
        self, config: TrainConfig, task: TaskData, folder: Path | None, progress: bool, device: torch.device
    ) -> Run:
        """The task's run; a state of another method, model or task in ``folder`` is not gone on with."""
        facts = {**asdict(self.settings), **asdict(self.method), **self.before}
        extra = {**facts, "task": task.name, "pictures and names": task.fingerprint()}
        return Run(config, folder, progress, f"learn {task.name}", extra, device)

    def _objective(self, grown: Towers, task: TaskData, pictures: Pictures, config: TrainConfig) -> Objective:
        """The method's loss on this task, with everything that it may know."""
        settings, needs = self.settings, self.method.objective.needs
        zero = grown if self.first else self.zero()
        zero.grow(grown.words)
        corpus = None
        if "reference" in needs:
            corpus = read_reference(settings.reference, grown, settings.reference_count, settings.seed)
        targets = make_targets(
            needs,
            zero,
            grown,
            task,
            pictures,
            first=self.first,
            steps=steps_of(config, len(pictures)),
            teachers=self.method.objective.teachers,
            exact=settings.teacher_view == "exact" or self.method.live,
            reference=corpus,
            memory=torch.cat(list(self.memory)) if self.memory else None,
            seed=settings.seed,
        )
        return self.method.objective_for(targets)

    def _student(self, grown: Towers, task: TaskData, objective: Objective) -> Student:
        towers = grown.copied()
        self.method.adapt(towers, self.settings.seed)
        return Student(towers, objective, grown.tokens(task.prompts()), self.settings.crop)


def clear_state(folder: Path | None) -> None:
    """Remove a finished task's training state."""
    if folder is not None:
        shutil.rmtree(folder / "state", ignore_errors=True)
