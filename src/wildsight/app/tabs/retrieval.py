"""Draw something, and see the photos that are most like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from wildsight.app.guard import guarded, lent, paths, readable, results_of, run_folder, shelf, taught
from wildsight.files import digest_of, sha256
from wildsight.images import from_array, load_image

WORLD, OWN = "sample photos", "my photos"
MODEL = "nano-clip"
SIZE = 96
LESSON: dict[str, Any] = {}


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Find the photo from my sketch.** Draw with the mouse or a finger, or upload a drawing. The "
        "sample photos are of solids that the model was not trained to match with drawings."
    )
    with gr.Row():
        with gr.Column():
            where = gr.Radio([WORLD, OWN], value=WORLD, label="Search in")
            photos = gr.File(file_count="multiple", label="Photos to search", visible=False)
            pen = gr.Brush(default_size=6, colors=["#000000"], color_mode="fixed")
            pad = gr.Sketchpad(
                label="Draw here", type="numpy", canvas_size=(320, 320), layers=False, brush=pen
            )
            drawn = gr.File(label="Or a drawing as a file")
            with gr.Row():
                sample = gr.Button("Take a sample drawing")
                find = gr.Button("Find", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Gallery(label="Nearest first", columns=4, object_fit="contain")
            files = gr.File(label="Report and table", file_count="multiple")
    where.change(lambda w: gr.update(visible=w == OWN), where, photos)
    sample.click(guarded(sample_drawing), None, drawn)
    find.click(guarded(find_photos), [where, photos, pad, drawn], [said, shown, files])


def sample_drawing() -> str:
    """A drawing of a solid that the model was not trained to match, as a file."""
    from wildsight.retrieval.data import SKETCH, read_source

    return lent([read_source("world").part("test", SKETCH)[0].file], "retrieval")[0]


def find_photos(
    where: str, photos: Any, pad: Any, drawn: Any
) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """What was found, in words and pictures, and the files to take away."""
    from wildsight.retrieval.reports import write_predictions

    sketch = paths(drawn)[0] if drawn else _canvas(pad)
    retriever = shelf.get("retrieval", _trained)
    index, unread = _index(retriever, where, photos)
    result = retriever.search(sketch, index, k=12)[0]
    pictures = [(load_image(h.path), f"{h.distance:.3f}") for h in result.hits if h.path.is_file()]
    warnings = [f"- the drawing {w}" for w in result.warnings] + [f"- not read: {e}" for e in unread]
    files = results_of(write_predictions([result], [], run_folder("retrieval")))
    return "\n".join([f"**{len(pictures)} photos, nearest first.**", *warnings]), pictures, files


def _canvas(pad: Any) -> Path:
    """The drawing on white, as a file."""
    pixels = None if not pad else pad.get("composite")
    if pixels is None:
        raise gr.Error("nothing was drawn; draw on the pad or give a file", print_exception=False)
    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = (pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    file = run_folder("retrieval") / "drawing.png"
    from_array(pixels).save(file)
    return file


def _trained() -> Any:
    """A retriever taught on the world's seen solids, kept in the cache."""
    from wildsight.retrieval import SketchRetriever
    from wildsight.retrieval.data import world_folder

    retriever = SketchRetriever("quadruplet", MODEL, image_size=SIZE)
    key = digest_of([retriever.backbone.sha, SIZE, LESSON])[:12]

    def teach() -> SketchRetriever:
        return retriever.fit(f"folder:{world_folder()}", progress=False, **LESSON)

    return taught(f"retrieval-{key}", SketchRetriever.from_pretrained, teach)


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
        raise gr.Error("no photo could be read: " + "; ".join(report.errors[:3]), print_exception=False)
    return target
