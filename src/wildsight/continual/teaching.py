"""One task taught to one model: caches, loss, training, merge. The served model is only read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildsight.continual.lesson import make_lesson, read_reference
from wildsight.continual.lora import LoRA, adapt, merge
from wildsight.continual.methods import Method
from wildsight.continual.objective import Objective
from wildsight.continual.pictures import Open, Pictures
from wildsight.continual.recipe import recipe, steps_of
from wildsight.continual.settings import LearnerSettings
from wildsight.continual.student import Run, Student, put, run_task, weights_of
from wildsight.continual.tasks import TaskData
from wildsight.continual.towers import Towers
from wildsight.training import TrainConfig


@dataclass(frozen=True)
class Teaching:
    """How a task is taught.

    Attributes:
        method, config: the method and its hyper-parameters.
        settings: of the learner.
        first: nothing was learned before, so that both teachers are the same.
        zero: reads the first model.
        memory: pixels of earlier tasks' pictures, for the methods that keep some.
        before: what the model was made from: its base and what it learned, for resuming.
    """

    method: Method
    config: Any
    settings: LearnerSettings
    first: bool
    zero: Callable[[], Towers]
    memory: Sequence[Tensor]
    before: Mapping[str, Any]

    def taught(
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
        if not self.method.objective.trains:
            return grown, {}
        begin = time.perf_counter()
        pictures = Pictures(task.train, grown.pixels, open_file)
        count = sum(w.numel() for w in grown.parameters())
        config = recipe(count, len(pictures), {"seed": self.settings.seed, **training}, task.recipe)
        objective = self._objective(grown, task, pictures, config)
        student = self._student(grown, task, objective)
        prepared = time.perf_counter()
        history = run_task(student, pictures, self._run(config, task, folder, progress))
        candidate = self._merged(student, weights_of(grown)).to(grown.device)
        drift = objective.drift().tolist()
        facts = {
            "weights": objective.teacher_weights().tolist(),
            "drift": dict(zip(task.classes, drift, strict=True)) if drift else {},
            "curve": history.curve("loss"),
            "seconds": {"prepare": prepared - begin, "train": history.seconds},
        }
        return candidate, facts

    def _run(self, config: TrainConfig, task: TaskData, folder: Path | None, progress: bool) -> Run:
        """The task's run; a state of another method, model or task in ``folder`` is not gone on with."""
        told = {**asdict(self.settings), **asdict(self.config), **self.before}
        extra = {**told, "task": task.name, "pictures and names": task.fingerprint()}
        return Run(config, folder, progress, f"learn {task.name}", extra)

    def _objective(self, grown: Towers, task: TaskData, pictures: Pictures, config: TrainConfig) -> Objective:
        """The method's loss on this task, with everything that it may know."""
        settings, needs = self.settings, self.method.objective.needs
        zero = grown if self.first else self.zero()
        zero.grow(grown.words)
        corpus = None
        if "reference" in needs:
            corpus = read_reference(settings.reference, grown, settings.reference_count, settings.seed)
        lesson = make_lesson(
            self.method.objective,
            zero,
            grown,
            task,
            pictures,
            first=self.first,
            steps=steps_of(config, len(pictures)),
            exact=settings.teacher_view == "exact" or not getattr(self.config, "hoist", True),
            reference=corpus,
            memory=torch.cat(list(self.memory)) if self.memory else None,
            seed=settings.seed,
        )
        return self.method.objective_for(self.config, lesson)

    def _student(self, grown: Towers, task: TaskData, objective: Objective) -> Student:
        towers = grown.copied()
        if isinstance(self.config, LoRA):
            adapt(towers, self.config, self.settings.seed)
        return Student(towers, objective, grown.tokens(task.prompts()), self.settings.crop)

    def _merged(self, student: Student, before: dict[str, Tensor]) -> Towers:
        towers = student.towers
        if isinstance(self.config, LoRA):
            merge(towers)
        else:
            put(towers, student.finished(before))
        return towers.eval()
