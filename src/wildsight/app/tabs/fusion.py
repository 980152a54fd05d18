"""Fuse sensors into one mask, and see what each contributed where."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import message
from wildsight.app.models import CHECKPOINT, DATA, Chosen, Preset, careful
from wildsight.app.uploads import paths, results_of, run_folder
from wildsight.app.widgets import Tab, upload
from wildsight.errors import DataError
from wildsight.files import CONFIG, read_json

WORLD = ("rgb", "depth", "thermal")
CONDITIONS = ("clear", "night", "fog", "overexposure")
PRESET = Preset(
    "fusion", "sample scenes", "pwrf", "nano-conv", training={"epochs": 4}, fit={"modalities": WORLD},
    sources="mcubes:/data/mcubes",
)  # fmt: skip


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**RGB, depth, thermal: one mask.** Switch a sensor off, or take a scene at night, and see "
        "how the others carry the answer. The sample model learns on first use, which takes a minute."
    )
    tab = Tab("fusion")
    with gr.Row():
        with gr.Column():
            form = ModelForm(PRESET)
            condition = gr.Dropdown(list(CONDITIONS), value="clear", label="Condition of the sample scene")
            number = gr.Slider(0, 40, 0, step=1, label="Which sample scene")
            live = gr.CheckboxGroup(list(WORLD), value=list(WORLD), label="Sensors that work")
            own = upload("Own scene (optional): one picture per sensor, named by it, such as hall_depth.png")
            with gr.Row():
                fuse = gr.Button("Fuse", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Gallery(label="Inputs, prediction, contributions", columns=3, object_fit="contain")
            files = gr.File(label="Mask, report, table, checkpoint", file_count="multiple")
            tab.saves(form, segmenter_of, [], files)
    gr.on(
        [form.kind.change, form.folder.change],
        sensors,
        [form.kind, form.folder],
        live,
        show_progress="hidden",
        queue=False,
    )
    given = [*form.inputs, condition, number, live, own.file]
    tab.run(fuse.click, form.asks(fuse_scene), given, [said, shown, files])


def sensors(kind: str, folder: str) -> Any:
    """The sensors that the model knows, all of them on."""
    names = list(WORLD)
    if kind == CHECKPOINT and (folder or "").strip():
        with suppress(DataError, KeyError, TypeError, OSError):
            names = list(read_json(Path(folder.strip()).expanduser() / CONFIG)["modalities"])
    return gr.update(choices=names, value=names)


def fuse_scene(
    chosen: Chosen, condition: str, number: float, live: list[str], own: Any
) -> tuple[str, list[Any], list[str]]:
    """What was seen, in words and tiles, and the files to take away."""
    from wildsight.fusion.reports import write_predictions

    segmenter = segmenter_of(chosen)
    scene = by_sensor(paths(own), segmenter.modalities) if own else _sample(condition, int(number))
    if not (known := {name: picture for name, picture in scene.items() if name in segmenter.modalities}):
        hint = f"give pictures of {', '.join(segmenter.modalities)}"
        raise message(f"the model knows none of the sample's sensors; {hint}")
    unlisted = set(segmenter.modalities) - set(WORLD) if chosen.kind == DATA else set()
    if not (scene := {name: picture for name, picture in known.items() if name in {*live, *unlisted}}):
        raise message("every sensor is off; leave at least one on")
    result = segmenter.predict(scene)[0]
    lines = [f"- {name} contributed {share:.0%}" for name, share in result.share.items()]
    areas = result.to_dict()["area"]
    lines += [f"- {name}: {share:.1%} of the picture" for name, share in areas.items()]
    lines += careful(segmenter, result)
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
        matching = (
            n for n in sorted(names, key=len, reverse=True) if _names(words, n.lower().replace("-", "_"))
        )
        name = next(matching, None)
        if name is None:
            hint = f"begin or end it with one of {', '.join(names)}"
            raise DataError("its name tells no sensor of the model", where=file, hint=hint)
        if name in found:
            raise DataError(f"is a second picture of {name}", where=file, hint="give one of each")
        found[name] = file
    return found


def _names(words: str, name: str) -> bool:
    return f"_{words}_".startswith(f"_{name}_") or f"_{words}_".endswith(f"_{name}_")


def _sample(condition: str, number: int) -> dict[str, Any]:
    """A test scene of the world, seen by all its sensors."""
    from wildsight.fusion.data import read_source

    chosen = [s for s in read_source("world").part("test") if s.condition == condition]
    return dict(chosen[number % len(chosen)].pictures)


def segmenter_of(chosen: Chosen) -> Any:
    """The segmenter that the form asks for."""
    return chosen.model(PRESET)
