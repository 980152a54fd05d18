"""Contact sheets: one picture that shows a part of the world at a glance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from wildsight.errors import ConfigError
from wildsight.files import atomic_path
from wildsight.images import from_array
from wildsight.world.asking import KINDS, Examiner
from wildsight.world.common import check
from wildsight.world.drawing import sketch
from wildsight.world.labels import label
from wildsight.world.language import caption, expression
from wildsight.world.places import grounding
from wildsight.world.portraits import portrait
from wildsight.world.products import CATEGORIES, DEFECTS, render_product
from wildsight.world.render import render
from wildsight.world.scene import COLOURS, MATERIALS, SHAPES, random_scene
from wildsight.world.sensors import FAILURES, SENSORS, sense
from wildsight.world.shapes3d import SOLIDS
from wildsight.world.tasks import tasks

Picture: TypeAlias = npt.NDArray[np.uint8]
_INK, _SOFT = (29, 35, 41), (110, 120, 130)
_FONT, _LINE = ImageFont.load_default(11), 18


def compose(
    rows: Sequence[Sequence[Picture]], *, across: Sequence[str] = (), down: Sequence[str] = ()
) -> Image.Image:
    """Pictures of one size in rows, with the names of the columns above and those of the rows beside them.

    Fewer names than columns or rows stand for several of them each.
    """
    sheet = np.vstack([np.hstack(list(row)) for row in rows])
    if across:
        wide = sheet.shape[1] // len(across)
        sheet = np.vstack((np.hstack([_words(name, wide, _LINE) for name in across]), sheet))
    if down:
        wide = 8 + max(round(_FONT.getlength(name)) for name in down)
        top = _LINE if across else 0
        tall = (sheet.shape[0] - top) // len(down)
        names = [_words("", wide, top), *(_words(name, wide, tall) for name in down)]
        sheet = np.hstack((np.vstack(names), sheet))
    return from_array(sheet)


def _words(text: str, wide: int, tall: int) -> Picture:
    """A white strip with a line of text in the middle of its height, smaller where it would not fit."""
    strip = Image.new("RGB", (wide, max(tall, 1)), "white")
    least = min(1.0, (wide - 4) / max(_FONT.getlength(text), 1))
    font = _FONT if least == 1 else ImageFont.load_default(max(7, int(11 * least)))
    ImageDraw.Draw(strip).text((4, tall / 2), text, fill=_INK, font=font, anchor="lm")
    return np.asarray(strip)[:tall]


def products_sheet(*, size: int = 128, seed: int = 0) -> Image.Image:
    """Categories down; across: a good product, then each of `DEFECTS` with its mask tinted below it."""
    rows = []
    for category in CATEGORIES:
        shown = [render_product(category, seed, size=size)]
        shown += [render_product(category, seed + 1 + i, defect=d, size=size) for i, d in enumerate(DEFECTS)]
        rows.append([item.image for item in shown])
        tinted = [np.where(item.mask[..., None], (255, 40, 40), item.image // 2) for item in shown]
        rows.append([picture.astype(np.uint8) for picture in tinted])
    return compose(
        rows,
        across=[d.replace("_", " ") for d in ("good", *DEFECTS)],
        down=[c.replace("_", " ") for c in CATEGORIES],
    )


def scenes_sheet(*, rows: int = 3, columns: int = 5, size: int = 128, seed: int = 0) -> Image.Image:
    """Random scenes of two to six things."""
    seeds = np.arange(seed, seed + rows * columns).reshape(rows, columns)
    return compose(
        [[render(random_scene(int(s), count=2 + int(s) % 5), size).rgb for s in row] for row in seeds]
    )


def materials_sheet(*, size: int = 96, seed: int = 0) -> Image.Image:
    """Materials down, shapes across, in all colours."""
    colours = tuple(COLOURS)
    table = [
        [
            portrait(seed + 8 * i + j, shape=s, material=m, colour=colours[(i + j) % 8])
            for j, s in enumerate(SHAPES)
        ]
        for i, m in enumerate(MATERIALS)
    ]
    pictures = [[render(scene, size).rgb for scene in row] for row in table]
    return compose(pictures, across=SHAPES, down=tuple(MATERIALS))


def sketches_sheet(*, size: int = 96, seed: int = 0) -> Image.Image:
    """Every solid: a photo, then three sketches of it; two solids a row."""
    cells = []
    for place, shape in enumerate(SOLIDS):
        seeds = [seed + 10 * place + i for i in range(4)]
        drawn = [sketch(portrait(s, shape=shape, pitch=(0.15, 0.55)), size) for s in seeds[1:]]
        photo = render(portrait(seeds[0], shape=shape), size).rgb
        cells.append([_titled(photo, shape), *(_titled(picture, "") for picture in drawn)])
    rows = [one + two for one, two in zip(cells[::2], cells[1::2], strict=True)]
    return compose(rows, across=("photo", "sketch", "sketch", "sketch") * 2)


def sensors_sheet(*, size: int = 128, seed: int = 0) -> Image.Image:
    """Sensors across; down: two scenes, then the second of them at night, in fog and overexposed."""
    first, second = random_scene(seed + 7, count=5), random_scene(seed + 5, count=5)
    plan = [(first, None), (second, None), *((second, failure) for failure in FAILURES)]
    pictures = [
        [false_colour(name, reading) for name, reading in sense(scene, size, failure=failure).inputs.items()]
        for scene, failure in plan
    ]
    return compose(pictures, across=tuple(SENSORS), down=("a scene, clear", "another, clear", *FAILURES))


def false_colour(name: str, reading: npt.NDArray[np.float32]) -> Picture:
    """A sensor's reading [S, S, C] in [0, 1] as a picture [S, S, 3] to look at."""
    from matplotlib import colormaps

    if name == "rgb":
        shown = reading
    elif name == "event":
        up, down = reading[..., 0], reading[..., 1]
        shown = np.stack((1 - down, 1 - np.maximum(up, down), 1 - up), -1)
    elif name == "thermal":
        shown = colormaps["inferno"](reading[..., 0])[..., :3]
    else:
        if name == "lidar":  # dots two pixels high, or they drown
            reading = np.maximum(reading, np.roll(reading, 1, 0))
        near = np.where(reading > 0, 1 - reading, 0)[..., 0]
        shown = np.where(reading > 0, colormaps["viridis"](near)[..., :3], 0.0)
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def labels_sheet(*, size: int = 160, seed: int = 0) -> Image.Image:
    """Scenes; below them the masks, and the 3D boxes projected by the intrinsics."""
    scenes = [random_scene(seed + 20 + i, count=4) for i in range(5)]
    frames = [render(scene, size) for scene in scenes]
    hues = np.array(
        [*(COLOURS[c] for c in ("red", "green", "blue", "yellow", "purple", "cyan")), (0.0, 0.0, 0.0)]
    )
    tinted = [(0.35 * f.rgb + 165 * hues[f.instance]).astype(np.uint8) for f in frames]
    boxed = []
    for scene, frame in zip(scenes, frames, strict=True):
        camera = scene.camera.intrinsics(size)
        boxed.append(with_boxes(frame.rgb, [item.box3d.project(camera) for item in label(scene, frame)]))
    return compose([[f.rgb for f in frames], tinted, boxed], down=("picture", "masks", "3D boxes"))


def with_boxes(picture: Picture, boxes: Sequence[npt.NDArray[np.float64]]) -> Picture:
    """The picture with each projected box [8, 2] drawn as a wire frame."""
    large = from_array(picture).resize((picture.shape[1] * 2, picture.shape[0] * 2), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(large)
    for corners in boxes:
        for one, two in combinations(range(8), 2):
            if (one ^ two).bit_count() == 1:
                ends = [(float(x), float(y)) for x, y in 2 * corners[[one, two]]]
                pen.line(ends, fill=(255, 240, 60), width=2)
    return np.asarray(large.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BOX))


def grounding_sheet(*, size: int = 160, seed: int = 0) -> Image.Image:
    """What is asked for, framed in 3D, at growing focal lengths."""
    cells = []
    for number, focal in enumerate((0.7, 1.0, 1.5, 2.2, 3.0)):
        made = grounding(seed=seed + number, size=size, count=3, focal=(focal, focal))
        rows = zip(made.images, made.boxes, made.intrinsics, strict=True)
        pictures = [with_boxes(image, [boxes[0].project(camera)]) for image, boxes, camera in rows]
        cells.append([_titled(p, t) for p, t in zip(pictures, made.expressions, strict=True)])
    return compose(list(zip(*cells, strict=True)))


def _titled(picture: Picture, text: str) -> Picture:
    """The picture with a line of text below it."""
    return np.vstack((picture, _words(text, picture.shape[1], _LINE)))


def tasks_sheet(*, size: int = 80, seed: int = 0) -> Image.Image:
    """A row per task: some of its pictures."""
    made = tasks(seed=seed, size=size, per_class=2, count=9)
    picks = [np.linspace(0, len(t.train_images) - 1, 10).astype(int) for t in made]
    pictures = [list(t.train_images[p]) for t, p in zip(made, picks, strict=True)]
    return compose(pictures, down=[f"{n}. {t.name}" for n, t in enumerate(made, 1)])


def language_sheet(*, size: int = 150, seed: int = 0, rows: int = 4) -> Image.Image:
    """Scenes beside their captions, an expression, and a question of each kind with its answer."""
    examiner, wide = Examiner(KINDS, seed=seed), 620
    strips = []
    for place in range(rows):
        scene = random_scene(seed + 40 + place, count=2 + place % 3)
        lines = [(caption(scene, level), _INK) for level in (1, 2, 3)]
        lines += [(f"{q.text}  {q.answer}", _SOFT) for q in examiner.ask(scene, 6)]
        strips.append(np.hstack((render(scene, size).rgb, _text(lines, wide, size))))
    return from_array(np.vstack(strips))


def _text(lines: Sequence[tuple[str, tuple[int, int, int]]], wide: int, tall: int) -> Picture:
    page = Image.new("RGB", (wide, tall), "white")
    pen, font, step = ImageDraw.Draw(page), ImageFont.load_default(12), (tall - 6) // len(lines)
    for row, (line, ink) in enumerate(lines):
        short = line
        while pen.textlength(short, font=font) > wide - 20:
            short = short.rsplit(" ", 2)[0] + " ..."
        pen.text((10, 3 + row * step), short, fill=ink, font=font)
    return np.asarray(page)


SHEETS: dict[str, Callable[..., Image.Image]] = {
    "scenes": scenes_sheet, "materials": materials_sheet, "labels": labels_sheet, "sensors": sensors_sheet,
    "sketches": sketches_sheet, "language": language_sheet, "grounding": grounding_sheet, "tasks":
    tasks_sheet, "products": partial(products_sheet, size=72),
}  # fmt: skip


def sheet(part: str, *, seed: int = 0) -> Image.Image:
    """The contact sheet of one part of `SHEETS`.

    Raises:
        ConfigError: an unknown part, or a seed below 0.
    """
    if part not in SHEETS:
        raise ConfigError(
            f"no part is called {part!r}", where="part", hint=f"choose from {', '.join(SHEETS)}"
        )
    check(32, seed)
    return SHEETS[part](seed=seed)


def save_sheet(part: str, file: Path, *, seed: int = 0) -> Path:
    """Write the contact sheet of a part to a png, jpg or webp file, whole or not at all.

    Raises:
        ConfigError: an unknown part, a seed below 0, or a file of another kind.
        DataError: the file cannot be written.
    """
    kinds = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
    if file.suffix not in kinds:
        raise ConfigError(
            f"cannot write {file.suffix or 'a file without a kind'}", hint="give png, jpg or webp"
        )
    picture = sheet(part, seed=seed)
    with atomic_path(file) as temporary:
        picture.save(temporary, kinds[file.suffix], quality=75)
    return file


def scene_in_words(seed: int = 0) -> tuple[Image.Image, str, str, str, str]:
    """A scene's picture, its caption, an expression for its first thing, a question and the answer."""
    scene = random_scene(seed, count=4)
    question = Examiner(("comparison",), seed=seed).ask(scene, 1)[0]
    picture = from_array(render(scene, 256).rgb)
    return picture, caption(scene, 3), str(expression(scene, 0)), question.text, question.answer
