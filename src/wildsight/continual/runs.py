"""A sequence learned into one folder: a checkpoint per task, the matrix beside it, and nothing learned
twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildsight.continual.data import TABLE, read_source
from wildsight.continual.evaluation import evaluate
from wildsight.continual.guard import Guard, probes_of
from wildsight.continual.metrics import (
    backward_transfer,
    class_incremental,
    forgetting,
    history,
    square,
    summary,
    triangle,
)
from wildsight.continual.result import Update
from wildsight.continual.tasks import TaskData, TaskSequence
from wildsight.errors import CheckpointError, DataError
from wildsight.files import digest_of, load_checkpoint, read_json, recover_folder, write_json

if TYPE_CHECKING:
    from wildsight.continual.learner import ContinualLearner

MATRIX, UPDATES = "matrix.json", "updates.json"


def fit_sequence(
    learner: ContinualLearner,
    source: str | Path | TaskSequence,
    folder: Path | None,
    guard: Guard,
    progress: bool,
    training: Mapping[str, Any],
    *,
    strict: bool = True,
    repeat: bool = False,
) -> list[Update]:
    """Learn every task in order; returns one report per task; without ``strict`` a refused one ends it.

    ``repeat`` allows tasks with prompts of an earlier one.

    Raises:
        DataError: a task was refused by the guard set; those before it stand.
        CheckpointError: the folder holds a run with other settings.
    """
    sequence = source if isinstance(source, TaskSequence) else read_source(source)
    probes = probes_of(guard)
    every = sequence.tasks
    learner.accept(every, probes, every, repeat=repeat, standing=folder is not None)
    _all_words(learner, sequence)
    updates: list[Update] = []
    known: dict[str, dict[str, float]] = {}
    for number, task in enumerate(sequence.tasks):
        place = None if folder is None else folder / f"task-{number + 1:02d}"
        done = place is not None and _loaded(learner, place, task, training)
        if done:
            known[task.name] = _completed(learner, sequence, task)
            _put_rows(learner, known)
            record = _records(folder).get(task.name, {})
            updates.append(Update.recorded(task.name, record, known[task.name]))
            continue
        tests = _tests(sequence)
        state = None if place is None else place.with_name(f"{place.name}.training")
        made = learner.update(
            task, guard=probes, tests=tests, folder=state, progress=progress, repeat=True, **training
        )
        if not made.accepted and not strict:
            return [*updates, made]
        if not made.accepted:
            raise DataError(
                f"was refused: {made.reason}", where=task.name, hint="lower the lr, or allow more"
            )
        if sequence.scenario == "class":
            _add_seen(learner, sequence, number)
            made = replace(made, accuracy=learner.matrix[-1]["accuracy"])
        updates.append(made)
        if folder is not None and place is not None and state is not None:
            _keep(learner, folder, place, updates, training)
            _forget(state)
    return updates


def _all_words(learner: ContinualLearner, sequence: TaskSequence) -> None:
    """Give all unknown words of the sequence their rows now, so that their order is the same on every run."""
    prompts = [t.format(c) for task in sequence.tasks for t in task.templates for c in task.classes]
    learner.towers.grow(learner.towers.unknown(prompts))


def _tests(sequence: TaskSequence) -> Sequence[TaskData]:
    return sequence.tasks if sequence.scenario == "task" else ()


def _add_seen(learner: ContinualLearner, sequence: TaskSequence, number: int) -> None:
    """The row of a class-incremental step: each seen task among all classes seen, and their weighted mean."""
    seen = sequence.tasks[: number + 1]
    found = evaluate(learner.towers, seen, learner.gallery, scenario="class")
    total = sum(found.counts.values())
    overall = sum(found.accuracy[n] * found.counts[n] for n in found.accuracy) / total
    entry = {"task": seen[-1].name, "accuracy": dict(found.accuracy), "seen": overall}
    learner.matrix = [*learner.matrix, entry]


def _completed(learner: ContinualLearner, sequence: TaskSequence, task: TaskData) -> dict[str, float]:
    """The row of a task that stands, with a column for every task that the sequence gained since."""
    row = next((dict(r["accuracy"]) for r in learner.matrix if r["task"] == task.name), {})
    if sequence.scenario != "task":
        return row
    missing = [t for t in sequence.tasks if t.name not in row]
    if missing:
        row |= evaluate(learner.towers, missing, learner.gallery).accuracy
    return {t.name: row[t.name] for t in sequence.tasks}


def _put_rows(learner: ContinualLearner, known: Mapping[str, dict[str, float]]) -> None:
    """Replace the learner's rows by the completed ones."""
    learner.matrix = [{**r, "accuracy": known.get(r["task"], r["accuracy"])} for r in learner.matrix]


def _identity(learner: ContinualLearner, training: Mapping[str, Any]) -> str:
    return digest_of([learner.identity(), dict(training)])


def _loaded(learner: ContinualLearner, place: Path, task: TaskData, training: Mapping[str, Any]) -> bool:
    """Take over a finished task; False where it is not there."""
    if not recover_folder(place).is_dir():
        return False
    tensors, settings = load_checkpoint(place, name=learner.weights_name)
    if settings.get("identity") != _identity(learner, training):
        raise CheckpointError(
            "holds a run with another base, method or settings", where=place, hint="choose another folder"
        )
    stood = settings["learned"][-1]
    if stood["name"] != task.name:
        raise CheckpointError(
            f"holds task {stood['name']!r}, and the source has {task.name!r} in its place",
            where=place,
            hint=f"put new tasks after the learned ones ({TABLE} gives the order), or use another folder",
        )
    if stood["digest"] != task.fingerprint():
        raise CheckpointError(
            f"learned task {task.name!r} from other pictures, names or templates than the source holds",
            where=place,
            hint="restore them, or choose another folder",
        )
    learner.adopt(tensors, settings)
    return True


def _keep(
    learner: ContinualLearner,
    folder: Path,
    place: Path,
    updates: Sequence[Update],
    training: Mapping[str, Any],
) -> None:
    """Write the task's checkpoint, then the matrix and the reports beside it."""
    learner.save_task(place, _identity(learner, training))
    write_json(folder / MATRIX, learner.matrix)
    named = _records(folder) | {u.task: u.to_dict() for u in updates if not u.resumed}
    write_json(folder / UPDATES, list(named.values()))


def _records(folder: Path | None) -> dict[str, dict[str, Any]]:
    """What earlier runs wrote of their updates, by task."""
    if folder is None or not (folder / UPDATES).is_file():
        return {}
    return {u["task"]: u for u in read_json(folder / UPDATES)}


def _forget(state: Path) -> None:
    import shutil

    shutil.rmtree(state, ignore_errors=True)


def scores(learner: ContinualLearner, scenario: str = "task") -> dict[str, float]:
    """Transfer, Avg, Last, forgetting and backward transfer of the learner's own matrix.

    In the class scenario, Avg and Last are over all classes seen so far, Transfer is not defined, and
    forgetting and backward transfer are of each task's own pictures among all classes seen.

    Raises:
        DataError: nothing was evaluated, or tasks are missing.
    """
    if scenario == "class":
        found = class_incremental([float(row["seen"]) for row in learner.matrix])
        matrix = triangle(learner.matrix)
        lost, back = float(forgetting(matrix).mean()), backward_transfer(matrix)
        return {**found, "forgetting": lost, "backward_transfer": back}
    return summary(square(*history(learner.matrix)))
