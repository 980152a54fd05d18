"""Draw something, and see the photos that are most like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import message
from wildsight.app.models import Chosen, Preset, careful, shelf
from wildsight.app.uploads import lent, paths, readable, results_of, run_folder
from wildsight.app.widgets import Tab, upload
from wildsight.files import digest_of, sha256
from wildsight.images import load_image

WORLD, OWN = "sample photos", "my photos"


def _solids() -> str:
    from wildsight.retrieval.data import world_folder

    return f"folder:{world_folder()}"


PRESET = Preset(
    "retrieval", "the sample model (learns on first use)", "quadruplet", "nano-clip",
    settings={"image_size": 96}, data=_solids, sources="sketchy:/data/sketchy",
)  # fmt: skip


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Find the photo from my sketch.** Draw with the mouse or a finger, or upload a drawing. The "
        "sample photos are of solids that the model was not trained to match with drawings."
    )
    tab = Tab("retrieval")
    with gr.Row():
        with gr.Column():
            where = gr.Radio([WORLD, OWN], value=WORLD, label="Search in")
            photos = upload("Photos to search", visible=False)
            pen = gr.Brush(default_size=6, colors=["#000000"], color_mode="fixed")
            pad = gr.Sketchpad(
                label="Draw here", type="filepath", format="png", canvas_size=(320, 320), layers=False,
                brush=pen, elem_id="pad",
            )  # fmt: skip
            drawn = upload("Or a drawing as a file", many=False)
            form = ModelForm(PRESET, label="Compared by")
            with gr.Row():
                sample = gr.Button("Take a sample drawing")
                find = gr.Button("Find", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="Nearest first", columns=4, object_fit="contain")
            files = gr.File(label="Report, table, checkpoint", file_count="multiple")
            tab.saves(form, retriever_of, [], files)
    where.change(lambda w: gr.update(visible=w == OWN), where, photos.box, show_progress="hidden")
    tab.sample(sample, sample_drawing, None, drawn.file, find)
    given = [*form.inputs, where, photos.file, pad, drawn.file]
    tab.run(find.click, form.asks(find_photos), given, [said, shown, files])


def sample_drawing() -> str:
    """A drawing of a solid that the model was not trained to match, as a file."""
    from wildsight.retrieval.data import SKETCH, read_source

    return lent([read_source("world").part("test", SKETCH)[0].file], "retrieval")[0]


def find_photos(
    chosen: Chosen, where: str, photos: Any, pad: Any, drawn: Any
) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """What was found, in words and pictures, and the files to take away."""
    from wildsight.retrieval.reports import write_predictions

    sketch = paths(drawn)[0] if drawn else _canvas(pad)
    retriever = retriever_of(chosen)
    index, unread = _index(retriever, where, photos)
    result = retriever.search(sketch, index, k=12)[0]
    pictures = [(load_image(h.path), f"{h.distance:.3f}") for h in result.hits if h.path.is_file()]
    notes = [f"- the drawing {w}" for w in result.warnings] + [f"- not read: {e}" for e in unread]
    files = results_of(write_predictions([result], [], run_folder("retrieval")))
    lines = [f"**{len(pictures)} photos, nearest first.**", "", *careful(retriever), *notes]
    return "\n".join(lines), pictures, files


def _canvas(pad: Any) -> Path:
    """The file of the drawing, a transparent picture with strokes."""
    file = None if not pad else pad.get("composite")
    if not file or load_image(file).convert("L").getextrema()[0] == 255:
        raise message("nothing was drawn; draw on the pad or give a file")
    return Path(file)


def retriever_of(chosen: Chosen) -> Any:
    """The retriever that the form asks for."""
    return chosen.model(PRESET)


def _index(retriever: Any, where: str, photos: Any) -> tuple[Path, list[str]]:
    """An index of the photos, made once for the same ones, and what could not be read of them."""
    from wildsight.retrieval.data import PHOTO, read_source

    if where == WORLD:
        files = [i.file for i in read_source("world").part("test", PHOTO)]
        unread: list[str] = []
    else:
        files, unread = readable(paths(photos), "photo")
    key = digest_of([retriever.maker, *(sha256(f) for f in files)])[:16]
    return shelf.get(f"index-{key}", lambda: _made(retriever, files)), unread


def _made(retriever: Any, files: list[Path]) -> Path:
    target = run_folder("retrieval") / "photos.db"
    report = retriever.index(files, target)
    if not report.total:
        raise message("no photo could be read: " + "; ".join(report.errors[:3]))
    return target
