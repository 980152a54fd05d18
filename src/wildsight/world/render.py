"""RGB, metric depth and instance numbers of a scene by exact ray intersection; no per-pixel Python."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError
from wildsight.world.scene import COLOURS, Array, Scene, Thing
from wildsight.world.shapes2d import noise

_FAR = 1e6


@dataclass(frozen=True)
class Frame:
    """What the camera sees.

    ``rgb`` uint8 [H, W, 3]; ``depth`` [H, W] metres along the optical axis (infinite on the sky);
    ``distance`` [H, W] metres along the ray; ``instance`` [H, W]: index of the thing, -1 elsewhere.
    """

    rgb: npt.NDArray[np.uint8]
    depth: Array
    distance: Array
    instance: npt.NDArray[np.int64]


def _planes(shape: str) -> Array:
    """Half-spaces n.p <= d as rows (n, d) in the shape's unit box [-1/2, 1/2]^3."""
    caps = [(0, 0, 1, 0.5), (0, 0, -1, 0.5)]
    if shape in ("cube", "slab", "post"):
        return np.array([*caps, (1, 0, 0, 0.5), (-1, 0, 0, 0.5), (0, 1, 0, 0.5), (0, -1, 0, 0.5)])
    if shape == "pyramid":
        return np.array([caps[1], (2, 0, 1, 0.5), (-2, 0, 1, 0.5), (0, 2, 1, 0.5), (0, -2, 1, 0.5)])
    if shape == "prism":
        return np.array([*caps, (0, -1, 0, 0.5), (2, 1, 0, 0.5), (-2, 1, 0, 0.5)])
    return np.array(caps)


def _quadric(shape: str) -> tuple[Array, Array, float] | None:
    """(diagonal, linear, constant) of a quadric that is at most 0 inside, or None."""
    if shape == "sphere":
        return np.ones(3), np.zeros(3), -0.25
    if shape == "cylinder":
        return np.array((1.0, 1.0, 0.0)), np.zeros(3), -0.25
    if shape == "cone":  # x^2 + y^2 <= ((1/2 - z) / 2)^2
        return np.array((1.0, 1.0, -0.25)), np.array((0.0, 0.0, 0.25)), -0.0625
    return None


def _enter(shape: str, origin: Array, rays: Array) -> tuple[Array, Array]:
    """Ray parameter [N] at which each ray enters the unit shape (`_FAR` if never), and normals [N, 3]."""
    planes = _planes(shape)
    slope = rays @ planes[:, :3].T
    slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
    hit = (planes[:, 3] - planes[:, :3] @ origin) / slope
    entries = np.where(slope < 0, hit, -_FAR)
    near, far = entries.max(1), np.where(slope > 0, hit, _FAR).min(1)
    normal = planes[entries.argmax(1), :3]
    curved = _quadric(shape)
    if curved is not None:
        low, high = _roots(*curved, origin, rays)
        at = origin + low[:, None] * rays
        normal = np.where((low > near)[:, None], 2 * curved[0] * at + curved[1], normal)
        near, far = np.maximum(near, low), np.minimum(far, high)
    return np.where((near < far) & (near > 0), near, _FAR), normal


def _roots(square: Array, linear: Array, constant: float, origin: Array, rays: Array) -> tuple[Array, Array]:
    a = (rays * rays) @ square
    b = rays @ (2 * square * origin + linear)
    c = float(origin * origin @ square + origin @ linear + constant)
    inside = b * b - 4 * a * c
    root = np.sqrt(np.maximum(inside, 0))
    a = np.where(np.abs(a) < 1e-12, 1e-12, a)
    one, two = (-b - root) / (2 * a), (-b + root) / (2 * a)
    missed = inside <= 0
    return np.where(missed, _FAR, np.minimum(one, two)), np.where(missed, -_FAR, np.maximum(one, two))


def _meet(thing: Thing, eye: Array, rays: Array) -> tuple[Array, Array]:
    """Ray parameters [N] and unit world normals [N, 3] where ``rays`` from ``eye`` meet ``thing``."""
    to_unit = thing.turn / thing.extent
    where, normal = _enter(thing.shape, (eye - thing.centre) @ to_unit, rays @ to_unit)
    normal = normal @ to_unit.T
    return where, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)


def render(scene: Scene, size: int = 64) -> Frame:
    """Render a scene to a square picture.

    Raises:
        ConfigError: a size outside 16 to 1024.
    """
    if not 16 <= size <= 1024:
        raise ConfigError(f"a picture of {size} pixels", where="size", mend="give 16 to 1024")
    camera, line = scene.camera, (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(line / camera.focal, line / camera.focal)
    seen = np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3)
    rays, eye = seen @ camera.turn, np.array((0.0, 0.0, camera.height))  # parameter = depth: seen z is 1
    depth = np.where(rays[:, 2] < -1e-9, -camera.height / np.minimum(rays[:, 2], -1e-9), _FAR)
    normal, instance = np.tile((0.0, 0.0, 1.0), (len(rays), 1)), np.full(len(rays), -1)
    for index, thing in enumerate(scene.things):
        where, facing = _meet(thing, eye, rays)
        closer = where < depth
        depth, instance = np.where(closer, where, depth), np.where(closer, index, instance)
        normal = np.where(closer[:, None], facing, normal)
    colour = _shade(scene, eye + depth[:, None] * rays, normal, instance, depth < 60)
    depth = np.where(depth < 60, depth, np.inf).reshape(size, size)
    distance = depth * np.linalg.norm(seen, axis=1).reshape(size, size)
    rgb = (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(size, size, 3)
    return Frame(rgb, depth, distance, instance.reshape(size, size))


def _shade(
    scene: Scene, at: Array, normal: Array, instance: npt.NDArray[np.int64], solid: npt.NDArray[np.bool_]
) -> Array:
    lamp = np.array((0.6 * np.cos(scene.lamp), 0.6 * np.sin(scene.lamp), 0.8))
    rng = np.random.default_rng((scene.seed, 1))
    at = np.where(solid[:, None], at, 0.0)
    floor = 0.62 + 0.06 * noise(at[:, 0], at[:, 1], 6, rng) + 0.04 * noise(at[:, 0], at[:, 1], 1.5, rng)
    palette = np.array([COLOURS[t.colour] for t in scene.things] + [(1.0, 0.96, 0.9)])
    colour = palette[instance] * np.where(instance < 0, floor, 1.0)[:, None]
    light = np.clip(normal @ lamp, 0, None)
    for index, thing in enumerate(scene.things):
        hidden = _hides(thing, at, lamp) & (instance != index)
        light = np.where(hidden, 0.25 * light, light)
    colour = colour * (0.35 + 0.8 * light)[:, None]
    return np.where(solid[:, None], colour, np.array((0.6, 0.7, 0.82)))


def _hides(thing: Thing, at: Array, lamp: Array) -> npt.NDArray[np.bool_]:
    """Whether an ellipsoid a little larger than the thing's box hides the lamp from points [N, 3]."""
    to_unit = thing.turn / thing.extent
    start, ray = (at - thing.centre) @ to_unit, lamp @ to_unit
    along = -(start @ ray) / (ray @ ray)
    gap = start + along[:, None] * ray
    hidden: npt.NDArray[np.bool_] = (along > 0) & ((gap * gap).sum(1) < 0.6**2)
    return hidden
