"""Outline what a click or a box marks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.guard import fitted, guarded, lent, paths, results_of, run_folder, shelf
from wildsight.images import load_image

ZERO = "stock SAM (nano-sam)"
ADAPTER = "an adapter folder"
Outlined = tuple[Any, str, list[str]]


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Outline the defect exactly.** Give a picture, then click on the thing in it, or type a "
        "box. The mask is the outline of what you marked."
    )
    with gr.Row():
        with gr.Column():
            kind = gr.Radio([ZERO, ADAPTER], value=ZERO, label="Drawn by")
            folder = gr.Textbox(label="Folder that `wildsight segmentation fit` wrote", visible=False)
            given = gr.File(label="Picture")
            sample = gr.Button("Take a sample picture")
            with gr.Row():
                corners = [
                    gr.Number(0, label=f"Box {side}, pixels", precision=0, minimum=0)
                    for side in ("left", "top", "right", "bottom")
                ]
            draw = gr.Button("Outline the box", variant="primary")
        with gr.Column():
            shown = gr.Image(
                label="Click on the thing", interactive=False, type="pil", height=420, elem_id="outline"
            )
            said = gr.Markdown()
            files = gr.File(label="Mask, report and table", file_count="multiple")
    kind.change(lambda k: gr.update(visible=k == ADAPTER), kind, folder)
    sample.click(guarded(sample_picture), None, given)
    given.change(guarded(open_picture), given, [shown, *corners])
    draw.click(guarded(outline_box), [kind, folder, given, *corners], [shown, said, files])
    clicked = guarded(outline_point)

    def on_click(kind: str, folder: str, given: Any, event: gr.SelectData) -> Any:
        return clicked(gr.Progress(), kind, folder, given, event.index)

    shown.select(on_click, [kind, folder, given], [shown, said, files])


def sample_picture() -> str:
    """A defective product, as a file."""
    from wildsight.anomaly.data import read_source

    bad = [s.image for s in read_source("world").test if s.label == 1]
    return lent(bad[5:6], "segmentation")[0]


def open_picture(given: Any) -> tuple[Any, int, int, int, int]:
    """The picture, and a box around its middle half."""
    if not given:
        return None, 0, 0, 0, 0
    picture = load_image(paths(given)[0])
    w, h = picture.size
    return picture, w // 4, h // 4, 3 * w // 4, 3 * h // 4


def outline_box(kind: str, folder: str, given: Any, *corners: float) -> Outlined:
    """The picture with the outline of what the box marks, its size in words, and the files to take away."""
    return _drawn(kind, folder, given, {"boxes": [tuple(corners)]})


def outline_point(kind: str, folder: str, given: Any, at: Any) -> Outlined:
    """The picture with the outline of what the click marks, its size in words, and the files."""
    return _drawn(kind, folder, given, {"points": [[tuple(at)]]})


def _drawn(kind: str, folder: str, given: Any, prompt: dict[str, Any]) -> Outlined:
    from wildsight.segmentation.reports import write_predictions
    from wildsight.segmentation.result import FINAL, paint

    file = paths(given)[0]
    result = _segmenter(kind, folder).predict(file, **prompt)[0]
    out = run_folder("segmentation")
    report = write_predictions([result], [], out)
    said = f"{int(result.mask.sum())} pixels, {result.mask.mean():.1%} of the picture."
    masks = sorted((out / "masks").glob("*.png"))
    return paint(load_image(file), result.mask, FINAL), said, [*map(str, masks), *results_of(report)]


def _segmenter(kind: str, folder: str) -> Any:
    from wildsight.segmentation import AnomalySegmenter

    if kind == ADAPTER:
        return fitted("segmentation", folder, AnomalySegmenter.from_pretrained)
    return shelf.get("segmentation", lambda: AnomalySegmenter("zero-shot", "nano-sam"))
