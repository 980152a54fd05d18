"""Plane signed distances, soft edges and value noise on numpy arrays: the pencils of the products.

Distances are negative inside. Coordinates are object units: the picture spans [-1, 1].
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.world.sums import dotted

Array: TypeAlias = npt.NDArray[np.float64]


def circle(u: Array, v: Array, radius: float) -> Array:
    """Distance to a circle of ``radius`` about the origin."""
    return np.hypot(u, v) - radius


def box(u: Array, v: Array, half_u: float, half_v: float, corner: float = 0.0) -> Array:
    """Distance to a box of half sizes ``half_u`` x ``half_v`` with rounded corners."""
    du, dv = np.abs(u) - half_u + corner, np.abs(v) - half_v + corner
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return outside + np.minimum(np.maximum(du, dv), 0) - corner


def polygon(u: Array, v: Array, sides: int, radius: float) -> Array:
    """Distance (exact inside, a lower bound outside) to a regular polygon of inner ``radius``."""
    sector = 2 * np.pi / sides
    angle = np.mod(np.arctan2(v, u), sector) - sector / 2
    return np.hypot(u, v) * np.cos(angle) - radius


def segment(u: Array, v: Array, start: Array, end: Array) -> Array:
    """Distance to the segment from ``start`` to ``end``, each an array [2]."""
    along = end - start
    t = np.clip(((u - start[0]) * along[0] + (v - start[1]) * along[1]) / dotted(along, along), 0, 1)
    distance: Array = np.hypot(u - start[0] - t * along[0], v - start[1] - t * along[1])
    return distance


def cover(distance: Array, soft: float = 0.02) -> Array:
    """Coverage in [0, 1]: 1 inside, 0 outside, a ramp of width ``soft`` across the outline."""
    return np.clip(0.5 - distance / soft, 0.0, 1.0)


def noise(u: Array, v: Array, cells: float, rng: np.random.Generator) -> Array:
    """Smooth value noise in [-1, 1] with about ``cells`` bumps per object unit; periodic over 64 bumps."""
    table = rng.uniform(-1, 1, (64, 64))
    x, y = u * cells, v * cells
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    x0, x1, y0, y1 = x0 % 64, (x0 + 1) % 64, y0 % 64, (y0 + 1) % 64
    top = table[y0, x0] * (1 - fx) + table[y0, x1] * fx
    low = table[y1, x0] * (1 - fx) + table[y1, x1] * fx
    return top * (1 - fy) + low * fy
