"""One thing that fills the picture, for data sets with a class per picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wildsight.world.scene import (
    COLOURS,
    FLOORS,
    MATERIALS,
    SHAPES,
    SIZES,
    Camera,
    Scene,
    Thing,
    check_seed,
    random_lamp,
)


def number_of(*parts: int) -> int:
    """A seed made of several whole numbers, none below 0."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def portrait(
    seed: int,
    *,
    shape: str | None = None,
    material: str | None = None,
    colour: str | None = None,
    floor: str | None = None,
    fill: tuple[float, float] = (0.56, 0.88),
    pitch: tuple[float, float] = (0.3, 0.75),
) -> Scene:
    """A scene of one thing about the middle of the picture; what is None is drawn.

    Args:
        seed: 0 or more; fixes everything.
        shape: its shape, a key of `SOLIDS`; drawn from `SHAPES`.
        material: its material.
        colour: its colour.
        floor: the floor.
        fill: range of the share of the picture's side that it takes, about.
        pitch: range of the camera's pitch, radians.

    Raises:
        ConfigError: an unknown name, or a seed below 0.
    """
    check_seed(seed)
    rng = np.random.default_rng((seed, 6))

    def pick(given: str | None, pool: Sequence[str]) -> str:
        drawn = pool[int(rng.integers(len(pool)))]
        return drawn if given is None else given

    names = pick(shape, SHAPES), pick(colour, tuple(COLOURS)), pick(material, tuple(MATERIALS))
    size, ground = pick(None, tuple(SIZES)), pick(floor, FLOORS)
    thing = Thing(*names, size, 0.0, 0.0, float(rng.uniform(-np.pi, np.pi)))
    down, focal = float(rng.uniform(*pitch)), float(rng.uniform(0.9, 1.5))
    tall = float(thing.extent[2]) * np.cos(down) + 1.2 * thing.reach * np.sin(down)
    across = max(1.7 * thing.reach, tall) / float(rng.uniform(*fill))
    away = focal * across + 0.5 * thing.reach
    aside, below = rng.uniform(-0.07, 0.07, 2) * across
    height = max(0.3, thing.extent[2] / 2 + away * np.sin(down) + below)
    eye = Camera(focal, float(height), down, float(aside), float(-away * np.cos(down)))
    return Scene((thing,), eye, random_lamp(rng), ground, seed)
