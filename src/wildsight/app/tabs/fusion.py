"""Fuse sensors into one mask, and see what each contributed where."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.guard import fitted, guarded, paths, results_of, run_folder, shelf, taught
from wildsight.errors import DataError
from wildsight.files import CONFIG, digest_of, read_json

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
            own = gr.File(
                file_count="multiple",
                label="Own scene (optional): one picture per sensor, named by it, such as hall_depth.png",
            )
            fuse = gr.Button("Fuse", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Gallery(label="Inputs, prediction, contributions", columns=3, object_fit="contain")
            files = gr.File(label="Mask, report and table", file_count="multiple")
    kind.change(lambda k: gr.update(visible=k == CHECKPOINT), kind, folder)
    gr.on([kind.change, folder.change], sensors, [kind, folder], live, show_progress="hidden")
    fuse.click(guarded(fuse_scene), [kind, folder, condition, number, live, own], [said, shown, files])


def sensors(kind: str, folder: str) -> Any:
    """The sensors that the model knows, all of them on."""
    names = list(WORLD)
    if kind == CHECKPOINT and (folder or "").strip():
        with suppress(DataError, KeyError, TypeError, OSError):
            names = list(read_json(Path(folder.strip()).expanduser() / CONFIG)["modalities"])
    return gr.update(choices=names, value=names)


def fuse_scene(
    kind: str, folder: str, condition: str, number: float, live: list[str], own: Any
) -> tuple[str, list[Any], list[str]]:
    """What was seen, in words and tiles, and the files to take away."""
    from wildsight.fusion.reports import write_predictions

    segmenter = _segmenter(kind, folder)
    scene = by_sensor(paths(own), segmenter.modalities) if own else _sample(condition, int(number))
    if not (known := {name: picture for name, picture in scene.items() if name in segmenter.modalities}):
        hint = f"give pictures of {', '.join(segmenter.modalities)}"
        raise gr.Error(f"the model knows none of the sample's sensors; {hint}", print_exception=False)
    if not (scene := {name: picture for name, picture in known.items() if name in live}):
        raise gr.Error("every sensor is off; leave at least one on", print_exception=False)
    result = segmenter.predict(scene)[0]
    lines = [f"- {name} contributed {share:.0%}" for name, share in result.share.items()]
    areas = result.to_dict()["area"]
    lines += [f"- {name}: {share:.1%} of the picture" for name, share in areas.items()]
    if result.maps:
        lines += ["", "A map runs from dark, its least share, to yellow, its greatest; both stand beneath."]
    out = run_folder("fusion")
    report = write_predictions([result], [], out)
    return "\n".join(lines), result.tiles(keyed=True), results_of(report, *sorted(out.glob("*/*.png")))


def by_sensor(files: list[Path], names: tuple[str, ...]) -> dict[str, Path]:
    """The uploads by the sensor that begins or ends their name.

    Raises:
        DataError: a name tells no sensor, or two tell the same one.

    >>> sorted(by_sensor([Path("hall_rgb.png"), Path("Depth-3.png")], ("rgb", "depth")))
    ['depth', 'rgb']
    """
    found: dict[str, Path] = {}
    for file in files:
        words = file.stem.lower().replace("-", "_").replace(" ", "_")
        told = (n for n in sorted(names, key=len, reverse=True) if _tells(words, n.lower().replace("-", "_")))
        name = next(told, None)
        if name is None:
            hint = f"begin or end it with one of {', '.join(names)}"
            raise DataError("its name tells no sensor of the model", where=file, hint=hint)
        if name in found:
            raise DataError(f"is a second picture of {name}", where=file, hint="give one of each")
        found[name] = file
    return found


def _tells(words: str, name: str) -> bool:
    return f"_{words}_".startswith(f"_{name}_") or f"_{words}_".endswith(f"_{name}_")


def _sample(condition: str, number: int) -> dict[str, Any]:
    """A test scene of the world, seen by all its sensors."""
    from wildsight.fusion.data import read_source

    chosen = [s for s in read_source("world").part("test") if s.condition == condition]
    return dict(chosen[number % len(chosen)].pictures)


def _segmenter(kind: str, folder: str) -> Any:
    from wildsight.fusion import FusionSegmenter

    if kind == CHECKPOINT:
        return fitted("fusion", folder, FusionSegmenter.from_pretrained)
    return shelf.get("fusion", _taught)


def _taught() -> Any:
    """A segmenter trained on the world's scenes, kept in the cache."""
    from wildsight.fusion import FusionSegmenter

    segmenter = FusionSegmenter("pwrf", "nano-conv")
    key = digest_of([segmenter.backbone.sha, asdict(segmenter.settings), segmenter.hyper, WORLD, LESSON])[:12]

    def teach() -> FusionSegmenter:
        return segmenter.fit("world", modalities=WORLD, progress=False, **LESSON)

    return taught(f"fusion-{key}", FusionSegmenter.from_pretrained, teach)
