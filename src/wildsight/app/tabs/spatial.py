"""Ask in words where something is: a box in metres on the picture, and seen from above."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import message
from wildsight.app.models import Chosen, Preset, careful
from wildsight.app.uploads import paths, results_of, run_folder
from wildsight.app.widgets import Tab, upload
from wildsight.spatial.presets import EPOCHS, HYPER, RECIPE, SCENES, STRIDES

TEST = 8
PICTURES = {"train": 1200}
Asked = dict[str, Any]


def _blank() -> Any:
    from wildsight.spatial.bench import tiny_llava

    return tiny_llava()


def _scenes() -> Any:
    from wildsight.spatial.data import world

    return world(PICTURES["train"], 0, **SCENES)


PRESET = Preset(
    "spatial", "sample scenes (learns on first use)", "llmi3d", _blank, settings={"strides": STRIDES},
    hyper=HYPER, training={"epochs": EPOCHS, **RECIPE}, data=_scenes, sources="omni3d:/data/omni3d",
)  # fmt: skip


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Where in metres is it, from one picture?** Ask in words; the answer is a box in the camera's "
        "frame, drawn on the picture and seen from above. The sample model is tiny: it learns from "
        "1200 drawn scenes on first use, which takes about two minutes. It is often beside the thing, "
        "so the truth of a sample stands beside its answer, in green. It knows no photographs: for "
        "those, name a checkpoint."
    )
    tab = Tab("spatial")
    with gr.Row():
        with gr.Column():
            form = ModelForm(PRESET)
            given = upload("Picture", many=False)
            number = gr.Slider(0, 4 * TEST - 1, TEST, step=1, label="Which sample picture")
            words = gr.Textbox(label="What is looked for; one sentence a line", lines=2)
            focal = gr.Number(label="Focal length, pixels (empty: from EXIF, else it is guessed)", value=None)
            asked = gr.State({})
            with gr.Row():
                sample = gr.Button("Take a sample picture and sentence")
                find = gr.Button("Find it", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="On the picture, and from above", columns=2, object_fit="contain")
            files = gr.File(label="Report, table, boxes (glTF), checkpoint", file_count="multiple")
            tab.saves(form, grounder_of, [], files)
    tab.sample(sample, sample_question, number, [given.file, words, focal, asked], find)
    asks = [*form.inputs, given.file, words, focal, asked]
    tab.run(find.click, form.asks(find_it), asks, [said, shown, files])


def sample_question(number: float) -> tuple[str, str, float, Asked]:
    """A test picture of the world, its question and focal length, and what to compare the answer with."""
    from wildsight.spatial.data import world

    samples = [s for s in world(0, TEST, **SCENES).part("test") if s.targets]
    sample = samples[int(number) % len(samples)]
    file = run_folder("spatial") / f"scene-{int(number):02d}.png"
    sample.picture().save(file)
    asked = {"file": file.name, "words": sample.expression, "truth": sample.targets}
    return str(file), sample.expression, round(sample.camera.fx, 1), asked


def find_it(
    chosen: Chosen, given: Any, words: str, focal: float | None, asked: Asked
) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """Answers in words, boxes drawn, and the files to take away."""
    from wildsight.spatial.reports import write_predictions

    file = paths(given)[0]
    lines = [line.strip() for line in (words or "").splitlines() if line.strip()]
    if not lines:
        raise message("nothing was asked; say what is looked for")
    grounder = grounder_of(chosen)
    results = grounder.predict(file, lines, focal=focal or None)
    out = run_folder("spatial")
    report = write_predictions(results, [], out)
    texts, shown = [], []
    for result in results:
        same = (asked.get("words"), asked.get("file")) == (result.expression, file.name)
        truth = asked["truth"] if same else ()
        texts += _in_words(result, truth)
        shown += [(result.overlay(truth), result.expression), (result.from_above(truth), "from above")]
    boxes = sorted((out / "boxes").glob("*.gltf"))
    return "\n".join([*texts, *careful(grounder)]), shown, results_of(report, *boxes)


def _in_words(result: Any, truth: Any) -> list[str]:
    """One answer as lines of the page."""
    camera = f"focal length {result.camera.fx:.0f} pixels ({result.intrinsics_from})"
    lines = [f"**{result.answer}**", "", f"- sure to {result.score:.0%}, {camera}"]
    if result.boxes:
        lines.append(f"- standard deviation of its depth: {result.boxes[0].spread:.1f} m")
    lines += [f"- careful: {flag}" for flag in result.flags]
    if truth and result.boxes:
        gap = result.boxes[0].centre - truth[0].centre
        off = float((gap**2).sum() ** 0.5)
        lines.append(f"- truth: {truth[0].centre[2]:.1f} m ahead; the answer is {off:.1f} m off")
    return [*lines, ""]


def grounder_of(chosen: Chosen) -> Any:
    """The grounder that the form asks for."""
    return chosen.model(PRESET, key=[PICTURES, SCENES])
