"""Ask in words where something is: a box in metres on the picture, and seen from above."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.guard import fitted, guarded, paths, results_of, run_folder, shelf, taught
from wildsight.files import digest_of
from wildsight.spatial.presets import EPOCHS, HYPER, RECIPE, SCENES, STRIDES

SAMPLE, CHECKPOINT = "sample scenes (learns on first use)", "a fitted checkpoint"
TEST = 8
LESSON: dict[str, Any] = {"pictures": 1200, "epochs": EPOCHS}
Asked = dict[str, Any]


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Where in metres is it, from one picture?** Ask in words; the answer is a box in the camera's "
        "frame, drawn on the picture and seen from above. The sample model is tiny: it learns from "
        "1200 drawn scenes on first use, which takes about two minutes. It is often beside the thing, "
        "so the truth of a sample stands beside its answer, in green. It knows no photographs: for "
        "those, name a checkpoint."
    )
    with gr.Row():
        with gr.Column():
            kind = gr.Radio([SAMPLE, CHECKPOINT], value=SAMPLE, label="Model")
            folder = gr.Textbox(label="Folder that `wildsight spatial fit` wrote", visible=False)
            given = gr.File(label="Picture")
            number = gr.Slider(0, 4 * TEST - 1, TEST, step=1, label="Which sample picture")
            sample = gr.Button("Take a sample picture and sentence")
            words = gr.Textbox(label="What is looked for; one sentence a line", lines=2)
            focal = gr.Number(label="Focal length, pixels (empty: from EXIF, else it is guessed)", value=None)
            asked = gr.State({})
            find = gr.Button("Find it", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Gallery(label="On the picture, and from above", columns=2, object_fit="contain")
            files = gr.File(label="Report, table and boxes (glTF)", file_count="multiple")
    kind.change(lambda k: gr.update(visible=k == CHECKPOINT), kind, folder)
    sample.click(guarded(sample_question), number, [given, words, focal, asked])
    find.click(guarded(find_it), [kind, folder, given, words, focal, asked], [said, shown, files])


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
    kind: str, folder: str, given: Any, words: str, focal: float | None, asked: Asked
) -> tuple[str, list[tuple[Any, str]], list[str]]:
    """Answers in words, boxes drawn, and the files to take away."""
    from wildsight.spatial.reports import write_predictions

    file = paths(given)[0]
    lines = [line.strip() for line in (words or "").splitlines() if line.strip()]
    if not lines:
        raise gr.Error("nothing was asked; say what is looked for", print_exception=False)
    results = _grounder(kind, folder).predict(file, lines, focal=focal or None)
    out = run_folder("spatial")
    report = write_predictions(results, [], out)
    told, shown = [], []
    for result in results:
        same = (asked.get("words"), asked.get("file")) == (result.expression, file.name)
        truth = asked["truth"] if same else ()
        told += _told(result, truth)
        shown += [(result.overlay(truth), result.expression), (result.from_above(truth), "from above")]
    boxes = sorted((out / "boxes").glob("*.gltf"))
    return "\n".join(told), shown, results_of(report, *boxes)


def _told(result: Any, truth: Any) -> list[str]:
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


def _grounder(kind: str, folder: str) -> Any:
    from wildsight.spatial import SpatialGrounder

    if kind == CHECKPOINT:
        return fitted("spatial", folder, SpatialGrounder.from_pretrained)
    return shelf.get("spatial", _taught)


def _taught() -> Any:
    """A grounder taught on the world's scenes, kept in the cache."""
    from wildsight.spatial import SpatialGrounder
    from wildsight.spatial.bench import tiny_llava
    from wildsight.spatial.data import world

    blank = tiny_llava()
    grounder = SpatialGrounder("llmi3d", blank, hyper=HYPER, strides=STRIDES)
    key = digest_of([blank.sha, grounder.eyes.cnn.sha, HYPER, RECIPE, SCENES, STRIDES, LESSON])[:12]

    def teach() -> SpatialGrounder:
        pictures = world(LESSON["pictures"], 0, **SCENES)
        return grounder.fit(pictures, progress=False, epochs=LESSON["epochs"], **RECIPE)

    def load(folder: Path) -> SpatialGrounder:
        return SpatialGrounder.from_pretrained(folder, backbone=tiny_llava())

    return taught(f"spatial-{key}", load, teach)
