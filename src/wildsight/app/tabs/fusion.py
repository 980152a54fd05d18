"""Fuse sensors into one mask, and see what each contributed where."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wildsight.app.guard import fitted, guarded, paths, results_of, run_folder, shelf, taught
from wildsight.errors import DataError
from wildsight.files import CONFIG, digest_of, read_json

WORLD = ("rgb", "depth", "thermal")
CONDITIONS = ("clear", "night", "fog", "overexposure")
LESSON: dict[str, Any] = {"epochs": 4}
SAMPLE, CHECKPOINT = "sample scenes", "a fitted checkpoint"
SIDE = 192
"""Height of what is drawn here, pixels."""
SCALE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Colours of the least to the greatest contribution."""
FLAT = 0.01
"""A smaller range of contributions is drawn as this one: what differs less is noise."""


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
        mend = f"give pictures of {', '.join(segmenter.modalities)}"
        raise gr.Error(f"the model knows none of the sample's sensors; {mend}", print_exception=False)
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
    return "\n".join(lines), tiles(result), results_of(report, *sorted(out.glob("*/*.png")))


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
            mend = f"begin or end it with one of {', '.join(names)}"
            raise DataError("its name tells no sensor of the model", where=file, mend=mend)
        if name in found:
            raise DataError(f"is a second picture of {name}", where=file, mend="give one of each")
        found[name] = file
    return found


def _tells(words: str, name: str) -> bool:
    return f"_{words}_".startswith(f"_{name}_") or f"_{words}_".endswith(f"_{name}_")


def tiles(result: Any) -> list[tuple[Image.Image, str]]:
    """Inputs, the prediction with its legend, and where each sensor contributed, with captions."""
    from wildsight.fusion.result import coloured
    from wildsight.images import from_array

    shown = [(picture, name) for name, picture in result.pictures.items()]
    shown.append((legend(coloured(result.labels, len(result.classes)), result), "prediction"))
    if result.saliency:
        shown.append((from_array(np.clip(result.confidence, 0, 1)), "saliency"))
    for name, heat in result.maps.items():
        if name not in result.missing:
            caption = f"{name}: {heat.min():.0%} to {heat.max():.0%}"
            shown.append((spectrum(heat, result.labels.shape), caption))
    return shown


def legend(mask: Image.Image, result: Any) -> Image.Image:
    """A mask with the colours and names of its classes on its right."""
    from wildsight.fusion.result import coloured

    there = np.flatnonzero(np.bincount(result.labels.ravel(), minlength=len(result.classes)))
    font, step = ImageFont.load_default(13), 18
    colours = coloured(there[None], len(result.classes)).convert("RGB")
    width = max(round(font.getlength(result.classes[c])) for c in there) + 28
    wide = max(1, round(mask.width * SIDE / mask.height))
    sheet = Image.new("RGB", (wide + width, max(SIDE, step * len(there) + 4)), "white")
    sheet.paste(mask.resize((wide, SIDE), Image.Resampling.NEAREST), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for row, number in enumerate(there):
        top = 2 + step * row
        draw.rectangle((wide + 6, top + 2, wide + 18, top + 14), colours.getpixel((row, 0)), "black")
        draw.text((wide + 24, top), result.classes[number], "black", font)
    return sheet


def spectrum(heat: np.ndarray, shape: tuple[int, int]) -> Image.Image:
    """Contributions [h, w] in colours from their least to their greatest, at a picture's (height, width)."""
    low, span = float(heat.min()), max(float(heat.max() - heat.min()), FLAT)
    size = (max(1, round(shape[1] * SIDE / shape[0])), SIDE)
    grey = Image.fromarray(((heat - low) / span).astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    level, at = np.asarray(grey, np.float64), np.linspace(0.0, 1.0, len(SCALE))
    parts = [np.interp(level, at, np.array(channel, np.float64)) for channel in zip(*SCALE, strict=True)]
    return Image.fromarray(np.rint(np.stack(parts, axis=2)).astype(np.uint8))


def _sample(condition: str, number: int) -> dict[str, Any]:
    """A test scene of the world, seen by all its sensors."""
    from wildsight.fusion.source import read_source

    chosen = [s for s in read_source("world").part("test") if s.condition == condition]
    return dict(chosen[number % len(chosen)].pictures)


def _segmenter(kind: str, folder: str) -> Any:
    from wildsight.fusion import FusionSegmenter

    if kind == CHECKPOINT:
        return fitted("fusion", folder, FusionSegmenter.from_pretrained)
    return shelf.get("fusion", _taught)


def _taught() -> Any:
    """A segmenter taught on the world's scenes, kept in the cache."""
    from wildsight.fusion import FusionSegmenter

    segmenter = FusionSegmenter("pwrf", "nano-conv")
    key = digest_of([segmenter.backbone.sha, asdict(segmenter.settings), segmenter.hyper, WORLD, LESSON])[:12]

    def teach() -> FusionSegmenter:
        return segmenter.fit("world", modalities=WORLD, progress=False, **LESSON)

    return taught(f"fusion-{key}", FusionSegmenter.from_pretrained, teach)
