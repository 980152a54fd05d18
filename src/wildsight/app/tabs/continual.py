"""Teach one CLIP task after task, watch what it keeps, and refuse what would break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import learning, message
from wildsight.app.models import Chosen, Preset, careful, saved
from wildsight.app.uploaded_tasks import new_task, put_tasks, zip_task
from wildsight.app.uploads import paths, results_of, run_folder
from wildsight.app.widgets import Refresh, Tab, upload
from wildsight.files import cache_folder
from wildsight.results import Table

SIZE, PER_CLASS, COUNT = 48, 4, 3
PRESET = Preset(
    "continual", "sample tasks", "mulki", "nano-clip", settings={"image_size": SIZE}, training={"epochs": 3},
    apart=("max_drop",),
)  # fmt: skip


def build() -> Refresh:
    """Lay out the tab."""
    gr.Markdown(
        "**Keep teaching one CLIP, break nothing it knew.** It learns three small sample tasks; then "
        "teach it one more. After each task all of them are tested. Where the guard set falls too far, "
        "the task is refused and the model before goes on serving. The sample model and its tasks are "
        "tiny: read the matrix for what is kept, not for how high it is."
    )
    tab = Tab("continual")
    with gr.Row():
        with gr.Column():
            where = gr.Textbox(str(cache_folder("app") / "continual"), label="Folder of the learner")
            form = ModelForm(PRESET, ())
            begin = gr.Button("1. Teach the sample tasks", variant="primary")
            name = gr.Textbox(label="Name of one more task")
            given = upload("Pictures named CLASS_anything.png, or a zip of CLASS/*")
            sample = gr.Button("Take a sample task")
            guard = gr.Checkbox(True, label="Guard: things in fog and colours in glare, never trained on")
            fall = gr.Slider(0, 20, 5, step=0.5, label="Points that the guard set may lose")
            teach = gr.Button("2. Teach this task")
            picture = upload("A picture to name", many=False)
            with gr.Row():
                ask = gr.Button("3. Name the picture")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Plot(label="Accuracy on each task (columns) after learning each (rows), percent")
            files = gr.File(label="Report, matrix, checkpoint", file_count="multiple")
            keep = gr.Button("Save what was learned", size="sm")
    out = [said, shown, files]
    tab.run(begin.click, form.asks(teach_samples), [*form.inputs, where], out)
    tab.sample(sample, sample_task, where, [name, given.file], teach)
    tab.run(teach.click, form.asks(teach_task), [*form.inputs, where, name, given.file, guard, fall], out)
    tab.run(ask.click, name_picture, [where, picture.file], said)
    tab.run(keep.click, save_learner, where, [said, files])
    return Refresh(tab, state_now, where, out)


def teach_samples(chosen: Chosen, where: str) -> tuple[str, Any, list[str]]:
    """Learn the sample tasks in order; a learner that is in the folder already is shown as it is."""
    root = _root(where)
    if (root / "checkpoint").is_dir():
        return _shown(root, _stored(root), [])
    learner, training = chosen.made(PRESET), chosen.training(PRESET)
    with learning():
        tasks = list(_samples()[:COUNT])
        updates = [learner.update(task, tests=tasks, progress=False, **training) for task in tasks]
    put_tasks(root / "tasks", tasks)
    learner.save_pretrained(root / "checkpoint")
    return _shown(root, learner, updates)


def sample_task(where: str) -> tuple[str, list[str]]:
    """The first sample task that the learner does not know, as a zip of CLASS/* folders."""
    known = _root(where) / "tasks"
    free = [t for t in _samples()[COUNT:] if not (known / t.name).is_dir()]
    if not free:
        raise message("every sample task is taught; give your own pictures")
    return free[0].name, [str(zip_task(free[0], run_folder("continual")))]


def teach_task(
    chosen: Chosen, where: str, name: str, given: Any, guard: bool, fall: float
) -> tuple[str, Any, list[str]]:
    """Learn one more task; where the guard set falls too far, nothing of it is kept."""
    from wildsight.continual.data import read

    root = _root(where)
    learner = _stored(root)
    task = new_task(name, paths(given), run_folder("continual"))
    before = read("folder", root / "tasks").tasks
    if task.name in [t.name for t in before]:
        raise message(f"a task called {task.name!r} is taught already")
    learner.settings = replace(learner.settings, max_drop=float(fall))
    training: dict[str, Any] = {**PRESET.training, **chosen.section("training")}
    with learning():
        update = learner.update(
            task, guard="world" if guard else None, tests=[*before, task], progress=False, **training
        )
    if update.accepted:
        put_tasks(root / "tasks", [task])
        learner.save_pretrained(root / "checkpoint")
    return _shown(root, learner, [update])


def name_picture(where: str, picture: Any) -> str:
    """What a picture shows, among the classes of all learned tasks."""
    learner = _stored(_root(where))
    best = learner.predict(paths(picture)[0], top=5)[0]
    rows = [[c, f"{p:.0%}"] for c, p in zip(best.classes, best.probabilities, strict=True)]
    text = f"**{best.label}**, learned in task {best.task!r}, among all learned classes."
    return "\n".join(
        [text, "", Table(["class", "probability"], rows).markdown(), "", *careful(learner, best)]
    )


def save_learner(where: str) -> tuple[str, list[str]]:
    """The learner's checkpoint, to take away."""
    return saved(_stored(_root(where)), PRESET.task)


def state_now(where: str) -> tuple[str, Any, list[str] | None]:
    """What is in the folder; nothing is learned."""
    root = _root(where)
    if not (root / "checkpoint").is_dir():
        return "Nothing was taught in this folder yet.", None, None
    return _shown(root, _stored(root), [])


def _root(where: str) -> Path:
    if not (where or "").strip():
        raise message("no folder is named")
    return Path(where.strip()).expanduser()


def _samples() -> Any:
    from wildsight.continual.data import read, world_folder

    return read("folder", world_folder(size=SIZE, per_class=PER_CLASS, count=6)).tasks


def _stored(root: Path) -> Any:
    from wildsight.continual import ContinualLearner

    if not (root / "checkpoint").is_dir():
        raise message("nothing was taught yet; begin with the sample tasks")
    return ContinualLearner.from_pretrained(root / "checkpoint")


def _shown(root: Path, learner: Any, updates: list[Any]) -> tuple[str, Any, list[str]]:
    """What was learned in words, the matrix, and the files to take away."""
    from wildsight.continual.reports import matrix_figure

    names = ", ".join(t["name"] for t in learner.learned)
    lines = [f"**{len(learner.learned)} tasks are learned**: {names}."]
    for update in updates:
        state = "accepted" if update.accepted else f"REFUSED: {update.reason}; the model before still serves"
        lines.append(f"- {update.task}: {state}")
    lines += careful(learner)
    rows = [[n, f"{a:.0f}", f"{b:.0f}"] for u in updates for n, (a, b) in u.guard.items()]
    if rows:
        lines += ["", Table(["guard, accuracy %", "before", "after"], rows).markdown()]
    report = learner.write_run(run_folder("continual"), updates, str(root / "tasks"))
    return "\n".join(lines), matrix_figure(learner.matrix), results_of(report)
