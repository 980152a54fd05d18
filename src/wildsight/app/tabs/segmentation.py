"""Outline what a click or a box marks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.models import Chosen, Preset, careful
from wildsight.app.uploads import lent, paths, results_of, run_folder, uploaded
from wildsight.app.widgets import Tab, upload
from wildsight.images import load_image

PRESET = Preset(
    "segmentation", "SAM as it is, or fitted on the sample's masks", "zero-shot", "nano-sam",
    sources="mvtec-ad:/data/mvtec",
)  # fmt: skip
SIDES = ("left", "top", "right", "bottom")
Outlined = tuple[Any, str, list[str]]


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Outline the defect exactly.** Give a picture, then click on the thing in it, or draw a box "
        "around it with the mouse. The mask is the outline of what you marked."
    )
    tab = Tab("segmentation")
    with gr.Row():
        with gr.Column():
            form = ModelForm(PRESET, label="Drawn by")
            given = upload("Picture", many=False)
            sample = gr.Button("Take a sample picture")
            with gr.Row(elem_id="box"):
                corners = [
                    gr.Number(0, label=f"Box {side}, pixels", precision=0, minimum=0, min_width=100)
                    for side in SIDES
                ]
            with gr.Row():
                draw = gr.Button("Outline the box", variant="primary", elem_id="outline-box")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Image(
                label="Click on the thing, or draw a box", interactive=False, type="pil", height=420,
                elem_id="outline",
            )  # fmt: skip
            files = gr.File(label="Mask, report, table, checkpoint", file_count="multiple")
            tab.saves(form, segmenter_of, [], files)
    tab.sample(sample, sample_picture, None, given.file, draw)
    opened = [shown, *corners]
    given.file.change(open_picture, given.file, opened, show_progress="hidden", queue=False)
    asked = [*form.inputs, given.file]
    tab.run(draw.click, form.asks(outline_box), [*asked, *corners], [shown, said, files])
    clicked = gr.JSON(visible=False)

    def place(event: gr.SelectData) -> Any:
        return list(event.index)

    at = shown.select(place, None, clicked, queue=False, show_progress="hidden")
    tab.run(at.then, form.asks(outline_point), [*asked, clicked], [shown, said, files])


def sample_picture() -> str:
    """A defective product, as a file."""
    from wildsight.anomaly.data import read_source

    bad = [s.image for s in read_source("world").test if s.label == 1]
    return lent(bad[5:6], "segmentation")[0]


def open_picture(given: Any) -> tuple[Any, int, int, int, int]:
    """The picture, and a box around its middle half."""
    from wildsight.app.jobs import message, plainly
    from wildsight.errors import WildSightError

    if not uploaded(given):
        return None, 0, 0, 0, 0
    try:
        picture = load_image(paths(given)[0])
    except WildSightError as fault:
        raise message(plainly(fault)) from fault
    w, h = picture.size
    return picture, w // 4, h // 4, 3 * w // 4, 3 * h // 4


def outline_box(chosen: Chosen, given: Any, *corners: float) -> Outlined:
    """The picture with the outline of what the box marks, its size in words, and the files to take away."""
    return _drawn(chosen, given, {"boxes": [tuple(corners)]})


def outline_point(chosen: Chosen, given: Any, at: Any) -> Outlined:
    """The picture with the outline of what the click marks, its size in words, and the files."""
    return _drawn(chosen, given, {"points": [[tuple(at)]]})


def _drawn(chosen: Chosen, given: Any, prompt: dict[str, Any]) -> Outlined:
    from wildsight.segmentation.reports import write_predictions
    from wildsight.segmentation.result import FINAL, paint

    file = paths(given)[0]
    segmenter = segmenter_of(chosen)
    result = segmenter.predict(file, **prompt)[0]
    out = run_folder("segmentation")
    report = write_predictions([result], [], out)
    lines = [f"{int(result.mask.sum())} pixels, {result.mask.mean():.1%} of the picture."]
    masks = sorted((out / "masks").glob("*.png"))
    said = "\n".join([*lines, "", *careful(segmenter, result)])
    return paint(load_image(file), result.mask, FINAL), said, [*map(str, masks), *results_of(report)]


def segmenter_of(chosen: Chosen) -> Any:
    """The segmenter that the form asks for."""
    return chosen.model(PRESET)
