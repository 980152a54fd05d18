"""RGB, metric depth and instance numbers of a scene by exact ray intersection; no per-pixel Python.

Rays are tested only where a thing's box or its shadow can fall. Where two things, faces or light and shade
meet, the colour is the mean over four rays; depth and instance numbers are always those of the pixel's
centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.world.lighting import Rays, shade
from wildsight.world.ranges import whole
from wildsight.world.scene import Array, Camera, Scene, Thing
from wildsight.world.shapes3d import enter, normals
from wildsight.world.sums import dotted, lengths, turned

HORIZON = 60.0  # metres of depth beyond which there is only sky
_SPREAD = np.array([(-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375)])


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


def check_size(size: int, low: int = 16) -> None:
    """Raise a `ConfigError` for a picture side outside ``low`` to 1024."""
    whole(size, "size", low, 1024)


def render(scene: Scene, size: int = 64, *, smooth: bool = True) -> Frame:
    """Render a scene to a square picture.

    Args:
        scene: what to draw.
        size: side in pixels, 16 to 1024.
        smooth: several rays at edges; without it the picture is about a third faster and jagged.

    Raises:
        ConfigError: a size outside 16 to 1024.
    """
    check_size(size)
    hits = trace(scene, size)
    colour, lit = shade(scene, hits)
    if smooth:
        _soften(scene, size, hits, colour, lit)
    rgb = (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8)
    depth = np.where(hits.depth < HORIZON, hits.depth, np.inf).reshape(size, size)
    distance = depth * lengths(hits.ways).reshape(size, size)
    picture = np.ascontiguousarray(rgb.T).reshape(size, size, 3)
    return Frame(picture, depth, distance, hits.instance.reshape(size, size))


def trace(scene: Scene, size: int, pixels: Array | None = None) -> Rays:
    """What the rays through ``pixels`` [2, N], or through every pixel's centre, meet first.

    Pixel coordinates run from 0 at the left and top edge to ``size`` at the right and bottom edge.
    """
    camera, grid = scene.camera, pixels is None
    if pixels is None:
        line = np.arange(size) + 0.5
        pixels = np.stack((np.tile(line, size), line.repeat(size)))
    x, y = (pixels / size - 0.5) / camera.focal
    seen: Array = np.stack((x, y, np.ones_like(x)))  # 1 along the optical axis: the parameter is the depth
    ways = turned(camera.turn.T, seen)
    depth = np.where(ways[2] < -1e-9, -camera.height / np.minimum(ways[2], -1e-9), 1e6)
    instance, facing = np.full(len(x), -1), np.zeros((3, len(x)))
    facing[2] = 1
    for index, thing in enumerate(scene.things):
        near = _window(camera.project(thing.corners, size), thing, camera, size, None if grid else pixels)
        if len(near):
            _meet(thing, index, near, camera, Rays(ways, depth, instance, facing, size))
    return Rays(ways, depth, instance, facing, size)


def _window(
    corners: Array, thing: Thing, camera: Camera, size: int, pixels: Array | None
) -> npt.NDArray[np.int64]:
    """Indices of the rays that can meet a thing."""
    low, high = corners.min(0), corners.max(0)
    if camera.see(thing.corners)[:, 2].min() < 0.05:
        low, high = np.zeros(2), np.full(2, float(size))
    if pixels is not None:
        return np.flatnonzero(((pixels >= low[:, None]) & (pixels <= high[:, None])).all(0))
    return window(low, high, size)


def window(low: Array, high: Array, size: int) -> npt.NDArray[np.int64]:
    """Flat indices of the pixels between two corners (x, y) of a box, cut to the picture."""
    x0, y0 = np.clip(np.floor(low), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(high), 0, size).astype(int)
    flat: npt.NDArray[np.int64] = (np.arange(y0, y1)[:, None] * size + np.arange(x0, x1)).ravel()
    return flat


def _meet(thing: Thing, index: int, near: npt.NDArray[np.int64], camera: Camera, rays: Rays) -> None:
    """Enter a thing into the depth buffer for the rays ``near``."""
    to_unit = (thing.turn / thing.extent).T
    origin = turned(to_unit, camera.eye - thing.centre)
    ways = turned(to_unit, rays.ways[:, near])
    where, face = enter(thing.shape, origin, ways)
    first = np.flatnonzero(where < rays.depth[near])
    hit = near[first]
    rays.depth[hit] = where[first]
    rays.instance[hit] = index
    bent = normals(thing.shape, face[first], origin[:, None] + where[first] * ways[:, first])
    facing = turned(to_unit.T, bent)
    rays.facing[:, hit] = facing / np.maximum(lengths(facing), 1e-9)


def _soften(
    scene: Scene, size: int, hits: Rays, colour: npt.NDArray[np.float32], lit: npt.NDArray[np.float32]
) -> None:
    """Replace the colours [3, N] at edges by the mean over four rays, in place."""
    edges = np.flatnonzero(_edges(size, hits, lit))
    if not len(edges):
        return
    centres = np.stack((edges % size, edges // size)) + 0.5
    spread = (centres[:, :, None] + _SPREAD.T[:, None, :]).reshape(2, -1)
    fine, _ = shade(scene, trace(scene, size, spread))
    colour[:, edges] = np.clip(fine, 0, 1).reshape(3, -1, 4).mean(2)


def _edges(size: int, hits: Rays, lit: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Pixels [N] that differ from a neighbour in thing, face or shade."""
    code = hits.instance * 2 + (lit > 0.5) + 2 * (hits.depth > HORIZON)
    grid, edge = code.reshape(size, size), np.zeros((size, size), np.bool_)
    facing = hits.facing.astype(np.float32).reshape(3, size, size)
    across = (grid[:, 1:] != grid[:, :-1]) | (dotted(facing[:, :, 1:], facing[:, :, :-1]) < 0.8)
    down = (grid[1:] != grid[:-1]) | (dotted(facing[:, 1:], facing[:, :-1]) < 0.8)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge.ravel()
