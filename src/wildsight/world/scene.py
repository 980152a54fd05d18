"""The scene description: objects on a floor, a camera, a lamp; everything else is derived from it.

World frame: x right, y forward, z up, metres, the floor at z = 0, the camera above the origin.
Camera frame: x right, y down, z forward (the optical axis), metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError

Array: TypeAlias = npt.NDArray[np.float64]

SHAPES = ("cube", "sphere", "cylinder", "cone", "pyramid", "prism", "slab", "post")
SIZES = {"small": 0.35, "medium": 0.5, "large": 0.7}  # full height of a cube, metres
COLOURS = {
    "red": (0.75, 0.12, 0.1), "green": (0.12, 0.55, 0.18), "blue": (0.12, 0.25, 0.75),
    "yellow": (0.88, 0.75, 0.12), "purple": (0.48, 0.18, 0.6), "cyan": (0.15, 0.68, 0.72),
    "orange": (0.9, 0.45, 0.1), "grey": (0.5, 0.5, 0.5),
}  # fmt: skip
# Proportions of each shape's bounding box along its own x, y, z.
PROPORTIONS = {
    "cube": (1.0, 1.0, 1.0), "sphere": (1.0, 1.0, 1.0), "cylinder": (0.9, 0.9, 1.0), "cone": (1.0, 1.0, 1.1),
    "pyramid": (1.0, 1.0, 1.0), "prism": (1.0, 1.0, 0.8), "slab": (1.4, 0.8, 0.4), "post": (0.45, 0.45, 1.5),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One object: ``x``, ``y`` in metres on the floor, ``yaw`` in radians about the vertical."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    yaw: float

    @property
    def extent(self) -> Array:
        """Full side lengths [3] of the bounding box along the object's own axes, metres."""
        return SIZES[self.size] * np.array(PROPORTIONS[self.shape])

    @property
    def centre(self) -> Array:
        """Centre [3] of the bounding box in the world frame, metres."""
        return np.array((self.x, self.y, self.extent[2] / 2))

    @property
    def turn(self) -> Array:
        """Rotation [3, 3] from the object's own axes to the world's."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))


@dataclass(frozen=True)
class Camera:
    """``focal`` in multiples of the image side, ``height`` in metres, ``pitch`` down in radians.

    Raises:
        ConfigError: a value outside 0.6-3 (focal), 0.5-5 (height) or 0.1-1.4 (pitch).
    """

    focal: float = 1.1
    height: float = 1.6
    pitch: float = 0.45

    def __post_init__(self) -> None:
        ranges = {"focal": (0.6, 3.0), "height": (0.5, 5.0), "pitch": (0.1, 1.4)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"is {getattr(self, name)}", where=name, mend=f"give {low} to {high}")

    @property
    def turn(self) -> Array:
        """Rotation [3, 3] from the world's axes to the camera's."""
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return np.array(((1.0, 0.0, 0.0), (0.0, -s, -c), (0.0, c, -s)))

    def intrinsics(self, size: int) -> Array:
        """Pinhole matrix [3, 3] in pixels for a picture of side ``size``; pixel centres at +0.5."""
        return np.array(((self.focal * size, 0, size / 2), (0, self.focal * size, size / 2), (0, 0, 1.0)))

    def project(self, points: Array, size: int) -> Array:
        """Pixel coordinates [N, 2] of world points [N, 3]."""
        seen = (points - np.array((0, 0, self.height))) @ self.turn.T @ self.intrinsics(size).T
        pixels: Array = seen[:, :2] / seen[:, 2:]
        return pixels


@dataclass(frozen=True)
class Scene:
    """Things under a camera; ``lamp`` is the lamp's azimuth in radians, ``seed`` fixes the floor."""

    things: tuple[Thing, ...]
    camera: Camera
    lamp: float
    seed: int


def random_scene(seed: int, *, count: int = 3, camera: Camera | None = None) -> Scene:
    """A scene of ``count`` things that do not touch, around the point the camera looks at.

    Raises:
        ConfigError: a count outside 1 to 6, or things that find no room.
    """
    if not 1 <= count <= 6:
        raise ConfigError(f"a scene of {count} things", where="count", mend="give 1 to 6")
    rng, camera = np.random.default_rng(seed), camera or Camera()
    far = camera.height / np.tan(camera.pitch)
    things: list[Thing] = []
    for _ in range(2000):
        x, y = rng.uniform(-1.2, 1.2), far + rng.uniform(-0.9, 1.2)
        names = [str(rng.choice(tuple(pool))) for pool in (SHAPES, COLOURS, SIZES)]
        thing = Thing(names[0], names[1], names[2], x, y, float(rng.uniform(-np.pi, np.pi)))
        if all(np.hypot(x - t.x, y - t.y) > _reach(thing) + _reach(t) for t in things):
            things.append(thing)
        if len(things) == count:
            return Scene(tuple(things), camera, float(rng.uniform(0, 2 * np.pi)), seed)
    raise ConfigError(f"{count} things find no room", where="count", mend="give fewer, 1 to 6")


def _reach(thing: Thing) -> float:
    return float(np.hypot(*thing.extent[:2])) / 2
