"""A whole inspection: look at parts, group what is wrong, name the groups, take the report away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.jobs import learning, message
from wildsight.app.uploads import lent, paths, stored_copies
from wildsight.app.widgets import Refresh, Tab, upload
from wildsight.errors import ConfigError
from wildsight.files import cache_folder
from wildsight.results import Table
from wildsight.training.progress import Meter
from wildsight.world.products import CATEGORIES

MOST = 40
"""Finds shown in the page."""
METHODS, BACKBONE = ("patchcore", "padim", "ras", "uniad"), "nano-conv"
LEARNING: dict[str, Any] = {}
"""Fields of `TrainConfig` that differ from the task's recipe."""


def build() -> Refresh:
    """Lay out the tab."""
    gr.Markdown(
        "**Inspect a stream of parts.** Everything is kept in one project folder on this machine: go "
        "on with it tomorrow, here or by `wildsight inspect`. Pictures are copied into it when they "
        "are uploaded here."
    )
    tab = Tab("inspect")
    with gr.Row():
        with gr.Column():
            project = gr.Textbox(default_folder(CATEGORIES[1]), label="Project folder")
            with gr.Accordion("A new project", open=False):
                product = gr.Dropdown(list(CATEGORIES), value=CATEGORIES[1], label="Sample product")
                good = upload("Good pictures (optional; else the sample product's)")
                method = gr.Dropdown(list(METHODS), value=METHODS[0], label="Method")
                backbone = gr.Textbox(BACKBONE, label="Backbone: hub id, folder or nano-*")
                rate = gr.Slider(
                    0.1, 20, 5, step=0.1,
                    label="False alarms allowed, of a hundred good pictures",
                )  # fmt: skip
            new = upload("Pictures to look at")
            with gr.Row():
                sample = gr.Button("Take sample pictures")
                begin = gr.Button("1. Look", variant="primary")
                tab.stop_button()
            with gr.Row():
                again = gr.Button("2. Group what was found")
                words = gr.Button("Describe it in words")
            with gr.Row():
                what = gr.Textbox(label="Group or find", info="or click a tile", min_width=120)
                word = gr.Textbox(label="Its name", info="`good` for a false alarm", min_width=120)
            call = gr.Button("3. Give the name")
            teach = gr.Button("4. Learn the names")
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="Finds", columns=4, object_fit="contain", allow_preview=False)
            file = gr.File(label="Inspection report")
    out = [said, shown, file]
    product.change(other_product, [project, product], project, show_progress="hidden")
    tab.sample(sample, sample_pictures, product, new.file, begin)
    tab.run(begin.click, look_at, [project, product, good.file, new.file, method, backbone, rate], out)
    tab.run(again.click, group_finds, project, out)
    tab.run(words.click, describe_finds, project, out)
    tab.run(call.click, give_name, [project, what, word], out)
    tab.run(teach.click, learn_names, project, out)
    shown.select(_label_of, None, what, queue=False, show_progress="hidden")
    return Refresh(tab, state_now, project, out)


def _label_of(event: gr.SelectData) -> str:
    """The group of the tile that was clicked."""
    return str((event.value or {}).get("caption") or "")


def state_now(folder: str) -> tuple[str, list[Any], str | None]:
    """What is in the project folder; nothing is looked at."""
    from wildsight.workflows.inspect import open_project

    if not (Path(folder.strip()).expanduser() / "project.json").is_file():
        return "No project is in this folder yet; *1. Look* begins one.", [], None
    return _shown(open_project(folder.strip()))


def default_folder(product: str) -> str:
    """Where the project of a sample product is kept; each has its own."""
    return str(cache_folder("app") / f"inspection-{product}")


def other_product(folder: str, product: str) -> str:
    """The folder for another product; one that a person wrote stays."""
    ours = {default_folder(name) for name in CATEGORIES}
    return default_folder(product) if not folder or folder in ours else folder


def sample_pictures(product: str) -> list[str]:
    """Two good and ten defective pictures of a sample product."""
    from wildsight.anomaly.data import read_source

    test = [s for s in read_source("world").test if s.category == product]
    good = [s.image for s in test if s.label == 0]
    return lent([*good[:2], *[s.image for s in test if s.label == 1][:10]], "inspect")


def look_at(
    folder: str,
    product: str,
    good: Any,
    new: Any,
    method: str = METHODS[0],
    backbone: str = BACKBONE,
    rate: float = 5.0,
) -> tuple[str, list[Any], str]:
    """Look at the pictures; a folder without a project gets one first."""
    from wildsight.workflows.inspect import look, open_project, start

    if not (folder or "").strip():
        raise message("no folder is named")
    root, files = Path(folder.strip()).expanduser(), paths(new)
    if not (root / "project.json").is_file():
        options: dict[str, Any] = {"method": method, "backbone": (backbone or "").strip() or BACKBONE}
        with learning():
            start(root, _good(root, product, good), false_alarm_rate=rate / 100, progress=False, **options)
    project, copies = open_project(root), stored_copies(root / "looked-at", files)
    if not good:
        _same_product(project, product)
    with Meter("looking", len(copies), enabled=False) as meter:
        look(project, copies, progress=meter.add)
    return _shown(project, [str(c.absolute()) for c in copies])


def _same_product(project: Any, product: str) -> None:
    """ConfigError where a project of one sample product is given pictures of another."""
    stands = Path(project.settings["good"]).name.removeprefix("product-")
    if stands in CATEGORIES and stands != product:
        hint = "choose that product, or another project folder"
        raise ConfigError(f"this project inspects the sample product {stands}", hint=hint)


def _good(root: Path, product: str, good: Any) -> str:
    """Where the good pictures of a new project are."""
    if good:
        folder = root.with_name(root.name + "-good")
        stored_copies(folder / "normal", paths(good))
        return str(folder)
    from wildsight.anomaly.data import world_folder

    single = cache_folder("app") / f"product-{product}"
    if not (single / product).exists():
        single.mkdir(parents=True, exist_ok=True)
        (single / product).symlink_to(world_folder() / product, target_is_directory=True)
    return f"mvtec-ad:{single}"


def group_finds(folder: str) -> tuple[str, list[Any], str]:
    """Group what was found."""
    from wildsight.workflows.inspect import group, open_project

    project = open_project(folder)
    group(project, backbone="nano-clip")
    return _shown(project)


def describe_finds(folder: str) -> tuple[str, list[Any], str]:
    """Say of each find what is wrong with what."""
    from wildsight.workflows.inspect import describe, open_project

    project = open_project(folder)
    with learning():
        count = describe(project, progress=False)
    return _shown(project, note=f"{count} finds are described.")


def learn_names(folder: str) -> tuple[str, list[Any], str]:
    """Teach the names, and answer with them."""
    from wildsight.workflows.inspect import learn, open_project

    project = open_project(folder)
    with learning():
        names = learn(project, progress=False, **LEARNING)
    return _shown(project, note=f"Learned: {', '.join(names) or 'names were taken back'}.")


def give_name(folder: str, what: str, word: str) -> tuple[str, list[Any], str]:
    """Name a group or a find."""
    from wildsight.workflows.inspect import name, open_project

    project = open_project(folder)
    count = name(project, (what or "").strip(), word or "")
    return _shown(project, note=f"{count} finds are called {word.strip()}.")


def _shown(project: Any, files: Sequence[str] = (), note: str = "") -> tuple[str, list[Any], str]:
    """What is known now; of the pictures that could not be read, those among ``files``."""
    from wildsight.workflows.inspect import write_report
    from wildsight.workflows.inspect.describing import in_words
    from wildsight.workflows.inspect.project import REJECTED
    from wildsight.workflows.inspect.reporting import tile

    wrong = sum(project.verdict(p) == REJECTED for p in project.looked.values())
    finds = list(project.finds())
    shown = [(tile(project, f), project.label(f)) for f in finds[:MOST]]
    table = Table(
        ["find", "kind", "in words"], [[f, project.label(f), in_words(project, [f])] for f in finds[:MOST]]
    )
    lines = [f"**{wrong} of {len(project.looked)} rejected, {len(finds)} finds.** {note}"]
    lines += [f"The first {MOST} finds are shown; all are in the report."] if len(finds) > MOST else []
    lines += [f"- not read: {project.errors[file]}" for file in files if file in project.errors]
    lines += ["", table.markdown()] if finds else []
    report = write_report(project)
    return "\n".join(lines), shown, lent([report], "inspect")[0]
