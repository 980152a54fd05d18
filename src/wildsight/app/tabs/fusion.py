"""Fuse sensors into one mask, and see what each contributed where."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wildsight.app.guard import fitted, guarded, shelf
from wildsight.images import load_image

WORLD = ("rgb", "depth", "thermal")
CONDITIONS = ("clear", "night", "fog", "overexposure")
LESSON: dict[str, Any] = {"epochs": 4}
SAMPLE, CHECKPOINT = "sample scenes", "a fitted checkpoint"


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**RGB, depth, thermal: one mask.** Switch a sensor off, or take a scene at night, and see "
        "how the others carry the answer. The sample model learns on first use, which takes a minute."
    )
    with gr.Row():
        with gr.Column():
            kind = gr.Radio([SAMPLE, CHECKPOINT], value=SAMPLE, label="Model")
            folder = gr.Textbox(label="Folder that `wildsight fusion fit` wrote", visible=False)
            condition = gr.Dropdown(list(CONDITIONS), value="clear", label="Condition of the sample scene")
            number = gr.Slider(0, 40, 0, step=1, label="Which sample scene")
            live = gr.CheckboxGroup(list(WORLD), value=list(WORLD), label="Sensors that work")
            files = [gr.File(label=f"Own {name} picture (optional)") for name in WORLD]
            fuse = gr.Button("Fuse", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Gallery(label="Inputs, prediction, contributions", columns=3, object_fit="contain")
    kind.change(lambda k: gr.update(visible=k == CHECKPOINT), kind, folder)
    fuse.click(guarded(fuse_scene), [kind, folder, condition, number, live, *files], [said, shown])


def fuse_scene(
    kind: str, folder: str, condition: str, number: float, live: list[str], *files: Any
) -> tuple[str, list[Any]]:
    """What was seen, in words and tiles."""
    own = {n: load_image(str(getattr(f, "name", f))) for n, f in zip(WORLD, files, strict=True) if f}
    scene = own or _sample(condition, int(number))
    scene = {name: picture for name, picture in scene.items() if name in live}
    if not scene:
        raise gr.Error("every sensor is off; leave at least one on", print_exception=False)
    result = _segmenter(kind, folder).predict(scene)[0]
    lines = [f"- {name} contributed {share:.0%}" for name, share in result.share.items()]
    areas = result.to_dict()["area"]
    lines += [f"- {name}: {share:.1%} of the picture" for name, share in areas.items()]
    return "\n".join(lines), result.tiles()


def _sample(condition: str, number: int) -> dict[str, Any]:
    """A test scene of the world."""
    from wildsight.fusion.source import read_source

    chosen = [s for s in read_source("world").part("test") if s.condition == condition]
    sample = chosen[number % len(chosen)]
    return {name: sample.pictures[name] for name in WORLD}


def _segmenter(kind: str, folder: str) -> Any:
    from wildsight.fusion import FusionSegmenter

    if kind == CHECKPOINT:
        return fitted("fusion", folder, FusionSegmenter.from_pretrained)
    return shelf.get("fusion", _fitted)


def _fitted() -> Any:
    from wildsight.fusion import FusionSegmenter

    return FusionSegmenter("pwrf", "nano-conv").fit("world", modalities=WORLD, progress=False, **LESSON)
