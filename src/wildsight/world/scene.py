"""The scene description: objects on a floor, a camera, a lamp; everything else is derived from it.

World frame: x right, y forward, z up, metres, the floor at z = 0, the camera above the origin.
Camera frame: x right, y down, z forward (the optical axis), metres.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError
from wildsight.world.ranges import span, whole, within
from wildsight.world.shapes3d import COMPOUND, PLAIN, SOLIDS
from wildsight.world.sums import turned

Array: TypeAlias = npt.NDArray[np.float64]

SHAPES: tuple[str, ...] = tuple(PLAIN)
MODELS: tuple[str, ...] = tuple(COMPOUND)
SIZES = {"small": 0.55, "medium": 0.78, "large": 1.05}  # about the height of a cube, metres
COLOURS = {
    "red": (0.78, 0.07, 0.07), "orange": (0.95, 0.45, 0.05), "yellow": (0.95, 0.84, 0.12),
    "green": (0.08, 0.55, 0.16), "cyan": (0.1, 0.74, 0.78), "blue": (0.08, 0.2, 0.78),
    "purple": (0.5, 0.13, 0.62), "white": (0.93, 0.93, 0.92),
}  # fmt: skip
# Each material or state with its surface temperature in degrees Celsius.
MATERIALS = {
    "matte": 28.0, "metal": 16.0, "striped": 37.0, "dotted": 32.0,
    "wet": 8.0, "rusty": 24.0, "mossy": 12.0, "hot": 70.0,
}  # fmt: skip
FLOORS = ("planks", "tiles", "checker", "concrete", "sand", "carpet")
MOST = 6  # things in a scene
FAR = 100  # metres from the origin at which things may stand, cameras at half of it
TURN = float(2 * np.pi)
LENS = (0.6, 3.0)  # focal lengths, in multiples of the image side
_AIM = 0.3  # metres above the floor where a drawn camera's axis points


@dataclass(frozen=True)
class Thing:
    """One object on the floor.

    ``shape`` is a key of `SOLIDS`, ``colour`` of `COLOURS`, ``material`` of `MATERIALS`, ``size`` of `SIZES`;
    ``x``, ``y`` metres, -100 to 100; ``yaw`` radians about the vertical, -6.28 to 6.28; ``scale``, 0.05 to
    20, multiplies the size.

    Raises:
        ConfigError: a name that is not in its list, or a value outside its range.
    """

    shape: str
    colour: str
    material: str
    size: str
    x: float
    y: float
    yaw: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        pools: dict[str, Collection[str]] = {
            "shape": SOLIDS,
            "colour": COLOURS,
            "material": MATERIALS,
            "size": SIZES,
        }
        for name, pool in pools.items():
            if getattr(self, name) not in pool:
                what = f"{getattr(self, name)!r} is none of the world's"
                raise ConfigError(what, where=name, hint=f"choose one of {', '.join(pool)}")
        within(self.x, "x", -FAR, FAR)
        within(self.y, "y", -FAR, FAR)
        within(self.yaw, "yaw", -TURN, TURN)
        within(self.scale, "scale", 0.05, 20)

    @property
    def unit(self) -> float:
        """Metres per unit of its shape's proportions."""
        return SIZES[self.size] * self.scale

    @cached_property
    def extent(self) -> Array:
        """Full side lengths [3] of the bounding box along the object's own axes, metres."""
        return self.unit * np.array(SOLIDS[self.shape].proportions)

    @cached_property
    def centre(self) -> Array:
        """Centre [3] of the bounding box in the world frame, metres."""
        return np.array((self.x, self.y, self.extent[2] / 2))

    @cached_property
    def turn(self) -> Array:
        """Rotation [3, 3] from the object's own axes to the world's."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))

    @cached_property
    def corners(self) -> Array:
        """Corners [8, 3] of its bounding box in the world frame, metres."""
        return self.placed(_SIGNS * self.extent)

    def placed(self, points: Array) -> Array:
        """World coordinates [N, 3] of points [N, 3] given along its own axes from its centre, metres."""
        return turned(self.turn, points.T).T + self.centre

    @property
    def reach(self) -> float:
        """Radius in metres of the circle about its footprint."""
        return float(np.hypot(self.extent[0], self.extent[1])) / 2


_SIGNS = np.stack(np.meshgrid((-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5)), -1).reshape(-1, 3)


@dataclass(frozen=True)
class Camera:
    """A pinhole that looks along +y: ``focal`` in multiples of the image side, ``height`` in metres,
    ``pitch`` down in radians, ``x`` and ``y`` its place in metres.

    Raises:
        ConfigError: a value outside 0.6-3 (focal), 0.3-9 (height), 0-1.4 (pitch) or -50 to 50 (place).
    """

    focal: float = 1.2
    height: float = 1.6
    pitch: float = 0.5
    x: float = 0.0
    y: float = 0.0

    def __post_init__(self) -> None:
        within(self.focal, "focal", *LENS)
        within(self.height, "height", 0.3, 9.0)
        within(self.pitch, "pitch", 0.0, 1.4)
        within(self.x, "x", -FAR / 2, FAR / 2)
        within(self.y, "y", -FAR / 2, FAR / 2)

    @cached_property
    def eye(self) -> Array:
        """Where it stands [3], metres."""
        return np.array((self.x, self.y, self.height))

    @cached_property
    def turn(self) -> Array:
        """Rotation [3, 3] from the world's axes to the camera's."""
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return np.array(((1.0, 0.0, 0.0), (0.0, -s, -c), (0.0, c, -s)))

    def intrinsics(self, size: int) -> Array:
        """Pinhole matrix [3, 3] in pixels for a picture of side ``size``; pixel centres at +0.5."""
        return np.array(((self.focal * size, 0, size / 2), (0, self.focal * size, size / 2), (0, 0, 1.0)))

    def see(self, points: Array) -> Array:
        """Camera coordinates [N, 3] of world points [N, 3]."""
        return turned(self.turn, (points - self.eye).T).T

    def project(self, points: Array, size: int) -> Array:
        """Pixel coordinates [N, 2] of world points [N, 3] in front of the camera."""
        seen = self.see(points)
        pixels: Array = seen[:, :2] / seen[:, 2:] * (self.focal * size) + size / 2
        return pixels


@dataclass(frozen=True)
class Lamp:
    """A sun: ``azimuth`` and ``elevation`` in radians, ``power`` and ``warmth`` about 1 and 0.

    Raises:
        ConfigError: a value outside -6.28 to 6.28 (azimuth), 0.05-1.57 (elevation), 0-4 (power) or -0.5 to
        0.5 (warmth).
    """

    azimuth: float = 2.4
    elevation: float = 0.9
    power: float = 1.0
    warmth: float = 0.0

    def __post_init__(self) -> None:
        within(self.azimuth, "azimuth", -TURN, TURN)
        within(self.elevation, "elevation", 0.05, TURN / 4)
        within(self.power, "power", 0, 4)
        within(self.warmth, "warmth", -0.5, 0.5)

    @cached_property
    def towards(self) -> Array:
        """Unit vector [3] to the sun."""
        flat = np.cos(self.elevation)
        return np.array((flat * np.cos(self.azimuth), flat * np.sin(self.azimuth), np.sin(self.elevation)))


def check_seed(seed: int) -> None:
    """Raise a `ConfigError` unless the seed is a whole number of 0 to 4294967295."""
    whole(seed, "seed", 0, 2**32 - 1)


@dataclass(frozen=True)
class Scene:
    """Up to six things under a camera and a lamp on a floor of `FLOORS`; ``seed`` fixes textures and noise.

    Raises:
        ConfigError: more things, an unknown floor, or a seed outside its range.
    """

    things: tuple[Thing, ...]
    camera: Camera = field(default_factory=Camera)
    lamp: Lamp = field(default_factory=Lamp)
    floor: str = "concrete"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        whole(len(self.things), "things", 0, MOST)
        if self.floor not in FLOORS:
            what = f"{self.floor!r} is none of the world's"
            raise ConfigError(what, where="floor", hint=f"choose one of {', '.join(FLOORS)}")


def random_lamp(rng: np.random.Generator) -> Lamp:
    """A sun behind or beside the camera, never straight ahead of it."""
    return Lamp(
        azimuth=-np.pi / 2 + rng.uniform(-2.0, 2.0),
        elevation=rng.uniform(0.7, 1.2),
        power=rng.uniform(0.85, 1.1),
        warmth=rng.uniform(-0.06, 0.1),
    )


def framing(focal: float, pitch: float, across: float) -> Camera:
    """The camera that sees ``across`` metres over the width of the picture, at its centre, 0.3 m above the
    floor.

    Raises:
        ConfigError: as `Camera`.
    """
    return Camera(focal=focal, height=_AIM + focal * across * float(np.sin(pitch)), pitch=pitch)


def random_scene(
    seed: int,
    *,
    count: int | None = 3,
    camera: Camera | None = None,
    shapes: Sequence[str] = SHAPES,
    focal: tuple[float, float] = (0.9, 1.5),
) -> Scene:
    """A scene of things that do not touch, all of them in the picture, none behind another altogether.

    Args:
        seed: 0 or more; fixes everything.
        count: how many things, 1 to 6; None draws it.
        camera: a camera; drawn to suit the count when None.
        shapes: what to draw from, keys of `SOLIDS`.
        focal: range of focal lengths to draw from, in multiples of the image side, within 0.6 to 3.

    Raises:
        ConfigError: a seed, count or focal length outside its range, no shape or an unknown one, or things
        that find no room.

    >>> len(random_scene(0, count=4).things)
    4
    """
    if count is not None:
        whole(count, "count", 1, MOST)
    check_seed(seed)
    span(focal, "focal", *LENS)
    unknown = [s for s in shapes if s not in SOLIDS]
    if unknown or not shapes:
        what = f"{unknown[0]!r} is none of the world's" if unknown else "no shape to draw from"
        raise ConfigError(what, where="shapes", hint=f"choose from {', '.join(SOLIDS)}")
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 7)) if count is None else count
    for _ in range(60):
        lens, pitch = float(rng.uniform(*focal)), float(rng.uniform(0.35, 0.75))
        eye = camera or framing(lens, pitch, 1.6 + 0.33 * number)
        things = strew(rng, number, eye, shapes)
        if things:
            floor = FLOORS[int(rng.integers(len(FLOORS)))]
            return Scene(things, eye, random_lamp(rng), floor, seed)
    hint = "give fewer, 1 to 6, or move the camera"
    raise ConfigError(f"{number} things find no room", where="count", hint=hint)


def strew(
    rng: np.random.Generator,
    number: int,
    camera: Camera,
    shapes: Sequence[str] = SHAPES,
    *,
    depths: tuple[float, float] | None = None,
    scales: tuple[float, float] = (1.0, 1.0),
) -> tuple[Thing, ...]:
    """Things thrown one by one where they fit in the picture and apart; empty when they find no room.

    Args:
        rng: draws everything.
        number: how many.
        camera: who must see them.
        shapes: what to draw from, keys of `SOLIDS`.
        depths: range of their places ahead of the camera in metres; about where it points when None.
        scales: range of factors on their sizes.
    """
    near, far, across = _room(camera, depths)
    things: list[Thing] = []
    boxes: list[tuple[float, float, float, float]] = []
    for _ in range(50 * number):
        side, deep, yaw, grow = rng.random(4).tolist()
        ahead = near + deep * (far - near)
        aside = (side - 0.5) * (across if depths is None else ahead / camera.focal)
        names, scale = _draw(rng, shapes), scales[0] + grow * (scales[1] - scales[0])
        thing = Thing(*names, camera.x + aside, camera.y + ahead, (2 * yaw - 1) * np.pi, scale)
        box = _outline(thing, camera)
        if box is None or any(_collide(thing, box, t, b) for t, b in zip(things, boxes, strict=True)):
            continue
        things.append(thing)
        boxes.append(box)
        if len(things) == number:
            return tuple(things)
    return ()


def _room(camera: Camera, depths: tuple[float, float] | None) -> tuple[float, float, float]:
    """Nearest and farthest place ahead, and the width to strew over, metres."""
    high = camera.height - _AIM
    aim = max(high, 0.1) / max(float(np.tan(camera.pitch)), 0.2)
    across = float(np.hypot(aim, high)) / camera.focal
    near, far = depths or (aim - 0.585 * across, aim + 0.715 * across)
    return near, far, across


_POOLS = tuple(COLOURS), tuple(MATERIALS), tuple(SIZES)


def _draw(rng: np.random.Generator, shapes: Sequence[str]) -> tuple[str, str, str, str]:
    a, b, c, d = rng.random(4).tolist()
    colours, materials, sizes = _POOLS
    return shapes[int(a * len(shapes))], colours[int(b * 8)], materials[int(c * 8)], sizes[int(d * 3)]


def _outline(thing: Thing, camera: Camera) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) in shares of the picture of an upright cylinder about it; None: not in
    view."""
    tall, wide = float(thing.extent[2]), thing.reach
    sin, cos = float(np.sin(camera.pitch)), float(np.cos(camera.pitch))
    ahead, up = thing.y - camera.y, tall / 2 - camera.height
    z = ahead * cos - up * sin
    if z < 0.6:
        return None
    x = camera.focal * (thing.x - camera.x) / z + 0.5
    y = camera.focal * (-ahead * sin - up * cos) / z + 0.5
    half_x, half_y = camera.focal * wide * 0.9 / z, camera.focal * (tall / 2 * cos + wide * sin * 0.8) / z
    box = (x - half_x, y - half_y, x + half_x, y + half_y)
    return box if min(box) > -0.01 and max(box) < 1.01 else None


def _collide(
    one: Thing, a: tuple[float, float, float, float], two: Thing, b: tuple[float, float, float, float]
) -> bool:
    if float(np.hypot(one.x - two.x, one.y - two.y)) < 0.95 * (one.reach + two.reach):
        return True
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return False
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return wide * tall > 0.4 * smaller
