"""Teach one CLIP task after task, watch what it keeps, and refuse what would break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.guard import guarded, paths, results_of, run_folder
from wildsight.app.lessons import new_task, put_tasks, zip_task
from wildsight.files import cache_folder
from wildsight.results import Table

SIZE, PER_CLASS, COUNT = 48, 4, 3
TRAINING: dict[str, Any] = {"epochs": 3}


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Keep teaching one CLIP, break nothing it knew.** It learns three small sample tasks; then "
        "teach it one more. After each task all of them are tested. Where the guard set falls too far, "
        "the task is refused and the model before goes on serving. The sample model and its tasks are "
        "tiny: read the matrix for what is kept, not for how high it is."
    )
    with gr.Row():
        with gr.Column():
            where = gr.Textbox(str(cache_folder("app") / "continual"), label="Folder of the learner")
            begin = gr.Button("1. Teach the sample tasks", variant="primary")
            name = gr.Textbox(label="Name of one more task")
            given = gr.File(
                file_count="multiple",
                label="Pictures named CLASS_anything.png, or a zip of CLASS/*",
            )
            sample = gr.Button("Take a sample task")
            guard = gr.Checkbox(True, label="Guard: things in fog and colours in glare, never trained on")
            fall = gr.Slider(0, 20, 5, step=0.5, label="Points that the guard set may lose")
            teach = gr.Button("2. Teach this task")
            picture = gr.File(label="A picture to name")
            ask = gr.Button("3. Name the picture")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Plot(label="Accuracy on each task (columns) after learning each (rows), percent")
            files = gr.File(label="Report and matrix", file_count="multiple")
    out = [said, shown, files]
    begin.click(guarded(teach_samples), where, out)
    sample.click(guarded(sample_task), where, [name, given])
    teach.click(guarded(teach_task), [where, name, given, guard, fall], out)
    ask.click(guarded(name_picture), [where, picture], said)


def teach_samples(where: str) -> tuple[str, Any, list[str]]:
    """Learn the sample tasks in order; a learner that is in the folder already is shown as it is."""
    from wildsight.continual import ContinualLearner

    root = _root(where)
    if (root / "checkpoint").is_dir():
        return _told(root, _stored(root), [])
    tasks = list(_samples()[:COUNT])
    learner = ContinualLearner("mulki", "nano-clip", image_size=SIZE)
    updates = [learner.update(task, tests=tasks, progress=False, **TRAINING) for task in tasks]
    put_tasks(root / "tasks", tasks)
    learner.save_pretrained(root / "checkpoint")
    return _told(root, learner, updates)


def sample_task(where: str) -> tuple[str, list[str]]:
    """The first sample task that the learner does not know, as a zip of CLASS/* folders."""
    known = _root(where) / "tasks"
    free = [t for t in _samples()[COUNT:] if not (known / t.name).is_dir()]
    if not free:
        raise gr.Error("every sample task is taught; give your own pictures", print_exception=False)
    return free[0].name, [str(zip_task(free[0], run_folder("continual")))]


def teach_task(where: str, name: str, given: Any, guard: bool, fall: float) -> tuple[str, Any, list[str]]:
    """Learn one more task; where the guard set falls too far, nothing of it is kept."""
    from wildsight.continual.data import read

    root = _root(where)
    learner = _stored(root)
    task = new_task(name, paths(given), run_folder("continual"))
    before = read("folder", root / "tasks").tasks
    if task.name in [t.name for t in before]:
        raise gr.Error(f"a task called {task.name!r} is taught already", print_exception=False)
    learner.settings = replace(learner.settings, max_drop=float(fall))
    update = learner.update(
        task, guard="world" if guard else None, tests=[*before, task], progress=False, **TRAINING
    )
    if update.accepted:
        put_tasks(root / "tasks", [task])
        learner.save_pretrained(root / "checkpoint")
    return _told(root, learner, [update])


def name_picture(where: str, picture: Any) -> str:
    """What a picture shows, among the classes of all learned tasks."""
    found = _stored(_root(where)).predict(paths(picture)[0], top=5)[0]
    rows = [[c, f"{p:.0%}"] for c, p in zip(found.classes, found.probabilities, strict=True)]
    text = f"**{found.label}**, learned in task {found.task!r}, among all learned classes."
    return "\n".join([text, "", Table(["class", "probability"], rows).markdown()])


def _root(where: str) -> Path:
    if not (where or "").strip():
        raise gr.Error("no folder is named", print_exception=False)
    return Path(where.strip()).expanduser()


def _samples() -> Any:
    from wildsight.continual.data import read, world_folder

    return read("folder", world_folder(size=SIZE, per_class=PER_CLASS, count=6)).tasks


def _stored(root: Path) -> Any:
    from wildsight.continual import ContinualLearner

    if not (root / "checkpoint").is_dir():
        raise gr.Error("nothing was taught yet; begin with the sample tasks", print_exception=False)
    return ContinualLearner.from_pretrained(root / "checkpoint")


def _told(root: Path, learner: Any, updates: list[Any]) -> tuple[str, Any, list[str]]:
    """What was learned in words, the matrix, and the files to take away."""
    from wildsight.continual.reports import matrix_figure

    names = ", ".join(t["name"] for t in learner.learned)
    lines = [f"**{len(learner.learned)} tasks are learned**: {names}."]
    for update in updates:
        state = "accepted" if update.accepted else f"REFUSED: {update.reason}; the model before still serves"
        lines.append(f"- {update.task}: {state}")
    rows = [[n, f"{a:.0f}", f"{b:.0f}"] for u in updates for n, (a, b) in u.guard.items()]
    if rows:
        lines += ["", Table(["guard, accuracy %", "before", "after"], rows).markdown()]
    report = learner.write_run(run_folder("continual"), updates, str(root / "tasks"))
    return "\n".join(lines), matrix_figure(learner.matrix), results_of(report)
