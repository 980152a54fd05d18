"""Data sets about where things are: boxes in metres from one picture, and outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.world.common import Names, Pictures, check, pictures
from wildsight.world.labels import Box3D, bounds, box3d
from wildsight.world.language import expression
from wildsight.world.portraits import number_of
from wildsight.world.products import CATEGORIES, DEFECTS, render_product
from wildsight.world.ranges import span, whole
from wildsight.world.render import render
from wildsight.world.scene import FLOORS, Array, Camera, Scene, random_lamp, random_scene, strew
from wildsight.world.shapes3d import SOLIDS


@dataclass(frozen=True)
class GroundingSet:
    """``images`` [N, S, S, 3] of level cameras; ``intrinsics`` [N, 3, 3] in pixels; ``expressions``: what
    is looked for; ``questions`` and ``answers``: the same as text, numbers in metres and radians;
    ``boxes``: for each picture the box looked for first, then those of everything else in it."""

    images: Pictures
    intrinsics: Array
    expressions: Names
    questions: Names
    answers: Names
    boxes: tuple[list[Box3D], ...]


@dataclass(frozen=True)
class OutlineSet:
    """One object or defect in a row: ``images`` [N, S, S, 3], ``masks`` bool [N, S, S], ``boxes`` [N, 4]
    (left, top, right, bottom) in pixels, ``names``: a shape, or a product's defect."""

    images: Pictures
    masks: npt.NDArray[np.bool_]
    boxes: Array
    names: Names


ON_THE_ROAD = ("car", "house", "chair", "bridge", "stairs", "tree", "cube", "table")


def grounding(
    *,
    seed: int = 0,
    size: int = 96,
    count: int = 200,
    focal: tuple[float, float] = (0.8, 1.2),
    most: int = 4,
    scales: tuple[float, float] = (1.0, 1.6),
) -> GroundingSet:
    """One to ``most`` things on a plain before a level camera, as from a car; one of them is asked for.

    The camera is 1.5 m above the ground. Depth grows with the focal length, so that the pictures alone look
    alike: metres need the intrinsics.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        count: how many pictures.
        focal: range of focal lengths in multiples of the picture's side, within 0.6 to 3.
        most: things in a picture, 1 to 4.
        scales: range of their sizes in multiples of a shape's own, within 0.5 to 3.

    Raises:
        ConfigError: a value outside its range.
    """
    check(size, seed, count=count)
    span(focal, "focal", 0.6, 3.0)
    whole(most, "most", 1, 4)
    span(scales, "scales", 0.5, 3.0)
    rows = [_grounded(number_of(seed, 60, place), focal, most, scales) for place in range(count)]
    order = [[t, *(i for i in range(len(s.things)) if i != t)] for s, t in rows]
    boxes = tuple([box3d(s.things[i], s.camera) for i in o] for (s, _), o in zip(rows, order, strict=True))
    names = tuple(str(expression(s, t)) for s, t in rows)
    return GroundingSet(
        pictures([s for s, _ in rows], size),
        np.stack([s.camera.intrinsics(size) for s, _ in rows]),
        names,
        tuple(f"where is {name} ?" for name in names),
        tuple(_spelled(found[0]) for found in boxes),
        boxes,
    )


def _grounded(
    seed: int, focal: tuple[float, float], most: int, scales: tuple[float, float]
) -> tuple[Scene, int]:
    """A scene and the thing asked for: it has a name of its own and shows 28 pixels or more in 96 x 96."""
    rng = np.random.default_rng(seed)
    while True:
        camera = Camera(float(rng.uniform(*focal)), 1.5, 0.0)
        depths = (3.0 * camera.focal, 6.5 * camera.focal)
        number = int(rng.integers(1, most + 1))
        things = strew(rng, number, camera, ON_THE_ROAD, depths=depths, scales=scales)
        floor = FLOORS[int(rng.integers(len(FLOORS)))]
        scene = Scene(things, camera, random_lamp(rng), floor, seed)
        shown = np.bincount(render(scene, 48, smooth=False).instance.ravel() + 1, minlength=len(things) + 1)[
            1:
        ]
        named = [i for i in range(len(things)) if shown[i] >= 7 and expression(scene, i)]
        if named:
            return scene, named[int(rng.integers(len(named)))]


def _spelled(box: Box3D) -> str:
    numbers = [f"{round(float(v), 2) + 0.0:.2f}" for v in (*box.centre, *box.size, box.yaw)]
    return f"centre {' '.join(numbers[:3])} size {' '.join(numbers[3:6])} turn {numbers[6]}"


def outlines(*, seed: int = 0, size: int = 128, count: int = 200) -> OutlineSet:
    """One object of a scene, and in every third row one defect of a product, to be outlined.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        count: how many.

    Raises:
        ConfigError: a value outside its range.
    """
    check(size, seed, count=count)
    rows = [
        (_defect if place % 3 == 2 else _object)(number_of(seed, 70, place), size) for place in range(count)
    ]
    images, masks, names = zip(*rows, strict=True)
    boxes = np.stack([bounds(mask) for mask in masks])
    return OutlineSet(np.stack(images), np.stack(masks), boxes, names)


def _object(seed: int, size: int) -> tuple[Pictures, npt.NDArray[np.bool_], str]:
    rng = np.random.default_rng((seed, 1))
    scene = random_scene(seed, count=None, shapes=tuple(SOLIDS))
    frame = render(scene, size)
    areas = np.bincount(frame.instance.ravel() + 1, minlength=len(scene.things) + 1)[1:]
    fair = np.flatnonzero(areas >= min(0.004 * size * size, areas.max()))
    index = int(fair[int(rng.integers(len(fair)))])
    return frame.rgb, frame.instance == index, scene.things[index].shape


def _defect(seed: int, size: int) -> tuple[Pictures, npt.NDArray[np.bool_], str]:
    rng = np.random.default_rng((seed, 1))
    category = CATEGORIES[int(rng.integers(len(CATEGORIES)))]
    kind = DEFECTS[int(rng.integers(len(DEFECTS)))]
    product = render_product(category, seed, defect=kind, size=size)
    return product.image, product.mask, f"{category} {kind}"
