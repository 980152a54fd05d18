"""A sequence learned into one folder: a checkpoint per task, the matrix beside it, and nothing learned
twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from wildsight.continual.data import TABLE
from wildsight.continual.result import ContinualEvaluation, Update
from wildsight.continual.tasks import TaskData, TaskSequence
from wildsight.errors import CheckpointError, DataError
from wildsight.files import read_json, recover_folder, write_json

MATRIX, UPDATES = "matrix.json", "updates.json"
Check = Callable[[Mapping[str, Any]], None]


@dataclass
class SequenceRun:
    """Tasks learned in order.

    Attributes:
        sequence: the tasks.
        update: learns a task, its training state in the given folder.
        save: writes a checkpoint.
        load: takes over a checkpoint, once the given function has found nothing wrong with its settings.
        measure: accuracy on some tasks, in a scenario.
        matrix: the learner's own rows: ``task``, ``accuracy`` and, in the class scenario, ``seen``; changed
            in place.
        identity: of the run; the checkpoints in ``folder`` have to carry the same.
        folder: where checkpoints, matrix and reports are kept; None keeps none.
        strict: raise where the guard set refuses a task; otherwise the sequence ends there.
        updates: one per task so far.
    """

    sequence: TaskSequence
    update: Callable[[TaskData, Path | None], Update]
    save: Callable[[Path], object]
    load: Callable[[Path, Check], None]
    measure: Callable[[Sequence[TaskData], str], ContinualEvaluation]
    matrix: list[dict[str, Any]]
    identity: str
    folder: Path | None = None
    strict: bool = True
    updates: list[Update] = field(default_factory=list)

    def learn(self) -> list[Update]:
        """Learn every task that the folder does not hold yet; returns one report per task.

        Raises:
            DataError: a task was refused by the guard set; those before it are kept.
            CheckpointError: the folder holds a run with other settings.
        """
        completed: dict[str, dict[str, float]] = {}
        for number, task in enumerate(self.sequence.tasks):
            place = None if self.folder is None else self.folder / f"task-{number + 1:02d}"
            if place is not None and recover_folder(place).is_dir():
                self.load(place, partial(self._check, place, task))
                completed[task.name] = self._completed(task)
                for row in self.matrix:
                    row["accuracy"] = completed.get(row["task"], row["accuracy"])
                record = self._records().get(task.name, {})
                self.updates.append(Update.recorded(task.name, record, completed[task.name]))
            elif not self._learned(task, number, place):
                break
        return self.updates

    def _learned(self, task: TaskData, number: int, place: Path | None) -> bool:
        """Learn a task; False where the guard set refused it."""
        state = None if place is None else place.with_name(f"{place.name}.training")
        made = self.update(task, state)
        if not made.accepted and self.strict:
            hint = "lower the learning rate lr, or allow a larger max_drop"
            raise DataError(f"was refused: {made.reason}", where=task.name, hint=hint)
        if made.accepted and self.sequence.scenario == "class":
            made = replace(made, accuracy=self._add_class_row(number))
        self.updates.append(made)
        if made.accepted and place is not None and state is not None:
            self._keep(place)
            shutil.rmtree(state, ignore_errors=True)
        return made.accepted

    def _add_class_row(self, number: int) -> dict[str, float]:
        """The row of a class-incremental step: each task so far among all classes so far, and their weighted
        mean."""
        tasks = self.sequence.tasks[: number + 1]
        scores = self.measure(tasks, "class")
        total = sum(scores.counts.values())
        overall = sum(scores.accuracy[n] * scores.counts[n] for n in scores.accuracy) / total
        accuracy = dict(scores.accuracy)
        self.matrix.append({"task": tasks[-1].name, "accuracy": accuracy, "seen": overall})
        return accuracy

    def _completed(self, task: TaskData) -> dict[str, float]:
        """The row of a task learned before, with a column for every task that the sequence gained since."""
        row = next((dict(r["accuracy"]) for r in self.matrix if r["task"] == task.name), {})
        if self.sequence.scenario != "task":
            return row
        missing = [t for t in self.sequence.tasks if t.name not in row]
        if missing:
            row |= self.measure(missing, "task").accuracy
        return {t.name: row[t.name] for t in self.sequence.tasks}

    def _check(self, place: Path, task: TaskData, config: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of another run or task."""
        if config.get("identity") != self.identity:
            raise CheckpointError(
                "holds a run with another base, method or settings",
                where=place,
                hint="choose another folder",
            )
        learned = config["learned"][-1]
        if learned["name"] != task.name:
            raise CheckpointError(
                f"holds task {learned['name']!r}, and the source has {task.name!r} in its place",
                where=place,
                hint=f"put new tasks after the learned ones ({TABLE} gives the order), or use another folder",
            )
        if learned["digest"] != task.fingerprint():
            raise CheckpointError(
                f"learned task {task.name!r} from other pictures, names or templates than the source holds",
                where=place,
                hint="restore them, or choose another folder",
            )

    def _keep(self, place: Path) -> None:
        """Write the task's checkpoint, then the matrix and the reports beside it."""
        self.save(place)
        write_json(place.parent / MATRIX, self.matrix)
        named = self._records() | {u.task: u.to_dict() for u in self.updates if not u.resumed}
        write_json(place.parent / UPDATES, list(named.values()))

    def _records(self) -> dict[str, dict[str, Any]]:
        """What earlier runs wrote of their updates, by task."""
        if self.folder is None or not (self.folder / UPDATES).is_file():
            return {}
        return {u["task"]: u for u in read_json(self.folder / UPDATES)}
