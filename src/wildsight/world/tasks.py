"""A sequence of small classification tasks that drift apart in what is shown and in how it is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.world.common import Pictures, check
from wildsight.world.drawing import sketch
from wildsight.world.portraits import number_of, portrait
from wildsight.world.products import CATEGORIES, render_product
from wildsight.world.ranges import whole
from wildsight.world.render import render
from wildsight.world.scene import COLOURS, MATERIALS, MODELS, SHAPES
from wildsight.world.sensors import sense


@dataclass(frozen=True)
class TaskSet:
    """``class_names``; ``templates`` with ``{}`` for the name; ``train_images`` and ``test_images`` uint8
    [N, S, S, 3] with int64 ``train_labels`` and ``test_labels`` [N] into ``class_names``."""

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    train_images: Pictures
    train_labels: npt.NDArray[np.int64]
    test_images: Pictures
    test_labels: npt.NDArray[np.int64]


def _photo(name: str, seed: int, size: int) -> Pictures:
    return render(portrait(seed, shape=name), size).rgb


def _material(name: str, seed: int, size: int) -> Pictures:
    return render(portrait(seed, material=name), size).rgb


def _drawn(name: str, seed: int, size: int) -> Pictures:
    return sketch(portrait(seed, shape=name, pitch=(0.15, 0.55)), size)


def _warm(name: str, seed: int, size: int) -> Pictures:
    heat = sense(portrait(seed, shape=name), size, names=("thermal",)).inputs["thermal"]
    return np.repeat((heat * 255 + 0.5).astype(np.uint8), 3, 2)


def _part(name: str, seed: int, size: int) -> Pictures:
    return render_product(name, seed, size=size).image


def _fogged(name: str, seed: int, size: int) -> Pictures:
    rgb = sense(portrait(seed, shape=name), size, names=("rgb",), failure="fog").inputs["rgb"]
    return (rgb * 255 + 0.5).astype(np.uint8)


def _coloured(name: str, seed: int, size: int) -> Pictures:
    rgb = sense(portrait(seed, colour=name), size, names=("rgb",), failure="overexposure").inputs["rgb"]
    return (rgb * 255 + 0.5).astype(np.uint8)


def _far(name: str, seed: int, size: int) -> Pictures:
    depth = sense(portrait(seed, shape=name), size, names=("depth",)).inputs["depth"]
    return np.repeat((np.clip(2 * depth, 0, 1) * 255 + 0.5).astype(np.uint8), 3, 2)


_Draw = Callable[[str, int, int], Pictures]
_TASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], _Draw]] = {
    "shapes": (SHAPES, ("a photo of {}", "a picture of {}"), _photo),
    "materials": (tuple(MATERIALS), ("a photo of a {} object", "a {} object"), _material),
    "sketches": (MODELS, ("a sketch of {}", "a drawing of {}"), _drawn),
    "models": (MODELS, ("a photo of {}", "a picture of {}"), _photo),
    "thermal": (SHAPES, ("a thermal image of {}", "a thermal picture of {}"), _warm),
    "products": (CATEGORIES, ("a photo of {}", "a picture of {}"), _part),
    "fog": (SHAPES + MODELS, ("a photo of {} in fog", "a picture of {} in fog"), _fogged),
    "depth": (MODELS, ("a depth image of {}", "a depth picture of {}"), _far),
    "glare": (tuple(COLOURS), ("a photo of a {} object", "a {} object"), _coloured),
}


def tasks(*, seed: int = 0, size: int = 96, per_class: int = 20, count: int = 6) -> list[TaskSet]:
    """The first ``count`` tasks: shapes, materials, sketches, models, thermal, products, fog, depth, glare.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        per_class: training pictures of each class; test has half as many, at least 2.
        count: how many tasks, 1 to 9.

    Raises:
        ConfigError: a value outside its range.
    """
    check(size, seed, per_class=per_class)
    whole(count, "count", 1, len(_TASKS))
    return [_task(name, number, seed, size, per_class) for number, name in enumerate(list(_TASKS)[:count])]


def _task(name: str, number: int, seed: int, size: int, per_class: int) -> TaskSet:
    classes, templates, draw = _TASKS[name]

    def part(split: int, each: int) -> tuple[Pictures, npt.NDArray[np.int64]]:
        labels = np.repeat(np.arange(len(classes)), each)
        keys = [number_of(seed, 80, number, split, int(c), i % each) for i, c in enumerate(labels)]
        images = [draw(classes[c], key, size) for c, key in zip(labels, keys, strict=True)]
        return np.stack(images), labels

    train, test = part(0, per_class), part(1, max(2, per_class // 2))
    return TaskSet(name, tuple(c.replace("_", " ") for c in classes), templates, *train, *test)
