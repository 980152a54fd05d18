"""Solids as unions of convex parts, and exact rays against them.

A part is the intersection of half-spaces and at most one quadric, in its shape's unit box [-1/2, 1/2]^3.
Rays are [3, N]: numpy reduces over a leading axis several times faster than over a trailing one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.world.sums import dotted, turned

Array: TypeAlias = npt.NDArray[np.float64]
Three: TypeAlias = tuple[float, float, float]

FAR = 1e6
_TINY = 1e-12


@dataclass(frozen=True)
class Quadric:
    """``square . p^2 + linear . p + constant <= 0``; ``nappe`` is the axis sign of a cone's wanted half."""

    square: Array
    linear: Array
    constant: float
    axis: int
    nappe: float


@dataclass(frozen=True)
class Part:
    """``planes`` [P, 4] as rows (n, d) of ``n . p <= d``, and a quadric or None."""

    planes: Array
    quadric: Quadric | None = None


@dataclass(frozen=True)
class Shape:
    """``proportions`` of the bounding box along its own x, y, z; ``symmetry``: turns about the vertical
    that leave it unchanged, 0 for all of them."""

    proportions: Three
    parts: tuple[Part, ...]
    symmetry: int


def _placed(normals: Array, centre: Three, size: Three) -> Array:
    """Half-spaces of a part's own unit box, placed at ``centre`` with ``size``."""
    facing = normals[:, :3] / np.array(size)
    return np.column_stack((facing, normals[:, 3] + (facing * np.array(centre)).sum(1)))


_BOX = np.array(
    [(0, 0, 1, 0.5), (0, 0, -1, 0.5), (1, 0, 0, 0.5), (-1, 0, 0, 0.5), (0, 1, 0, 0.5), (0, -1, 0, 0.5)]
)
_PYRAMID = np.array([(0, 0, -1, 0.5), (2, 0, 1, 0.5), (-2, 0, 1, 0.5), (0, 2, 1, 0.5), (0, -2, 1, 0.5)])
_ROOF = np.array([(0, 0, -1, 0.5), (1, 0, 0, 0.5), (-1, 0, 0, 0.5), (0, 2, 1, 0.5), (0, -2, 1, 0.5)])


def _flat(faces: Array, centre: Three = (0, 0, 0), size: Three = (1, 1, 1)) -> Part:
    return Part(_placed(faces, centre, size))


def _box(centre: Three = (0, 0, 0), size: Three = (1, 1, 1)) -> Part:
    return _flat(_BOX, centre, size)


def _curved(square: Array, linear: Array, constant: float, centre: Three, size: Three) -> Quadric:
    at, by = np.array(centre), np.array(size)
    moved = square / by**2
    bent = linear / by - 2 * moved * at
    level = constant + float((moved * at * at).sum() - (linear / by * at).sum())
    return Quadric(moved, bent, level, 2, -1.0)


def _ball(centre: Three = (0, 0, 0), size: Three = (1, 1, 1), cut: float | None = None) -> Part:
    """An ellipsoid; with ``cut``, only what lies above that height of its own unit box."""
    quadric = _curved(np.ones(3), np.zeros(3), -0.25, centre, size)
    faces = _BOX[:2] if cut is None else np.array([(0, 0, 1, 0.5), (0, 0, -1, -cut)])
    return Part(_placed(faces, centre, size), quadric)


def _round(centre: Three = (0, 0, 0), size: Three = (1, 1, 1), top: float = 1.0, axis: int = 2) -> Part:
    """A cylinder along ``axis`` whose radius at the far end is ``top`` times that at the near end; 0: a cone.

    With r(z) = a - b z in the part's unit box: x^2 + y^2 <= (a - b z)^2.
    """
    a, b = 0.25 * (1 + top), 0.5 * (1 - top)
    square, linear = np.ones(3), np.zeros(3)
    square[axis], linear[axis] = -b * b, 2 * a * b
    bent = _curved(square, linear, -a * a, centre, size)
    caps = np.zeros((2, 4))
    caps[:, axis], caps[:, 3] = (1, -1), 0.5
    narrow = -1.0 if top <= 1 else 1.0
    quadric = Quadric(bent.square, bent.linear, bent.constant, axis, narrow)
    return Part(_placed(caps, centre, size), quadric)


def _four(x: float, y: float, z: float, size: Three) -> tuple[Part, ...]:
    return tuple(_box((sx * x, sy * y, z), size) for sx in (-1, 1) for sy in (-1, 1))


def _wheels() -> tuple[Part, ...]:
    return tuple(_round((x, y, -0.28), (0.2, 0.16, 0.44), axis=1) for x in (-0.3, 0.3) for y in (-0.42, 0.42))


PLAIN: dict[str, Shape] = {
    "cube": Shape((0.95, 0.95, 0.95), (_box(),), 4),
    "sphere": Shape((1.05, 1.05, 1.05), (_ball(),), 0),
    "cylinder": Shape((0.85, 0.85, 1.1), (_round(),), 0),
    "cone": Shape((1.1, 1.1, 1.25), (_round(top=0.0),), 0),
    "pyramid": Shape((1.2, 1.2, 1.1), (_flat(_PYRAMID),), 4),
    "table": Shape(
        (1.2, 1.2, 0.9),
        (_box((0, 0, 0.4), (1, 1, 0.2)), *_four(0.38, 0.38, -0.1, (0.18, 0.18, 0.8))),
        4,
    ),
    "cross": Shape(
        (1.25, 1.25, 1.25),
        (_box(size=(1, 0.28, 0.28)), _box(size=(0.28, 1, 0.28)), _box(size=(0.28, 0.28, 1))),
        4,
    ),
    "hourglass": Shape(
        (0.95, 0.95, 1.3),
        (_round((0, 0, -0.25), (1, 1, 0.5), 0.12), _round((0, 0, 0.25), (0.12, 0.12, 0.5), 1 / 0.12)),
        0,
    ),
}
COMPOUND: dict[str, Shape] = {
    "house": Shape(
        (1.2, 0.9, 1.1),
        (
            _box((0, 0, -0.2), (0.88, 0.84, 0.6)),
            _flat(_ROOF, (0, 0, 0.29), (1, 1, 0.42)),
            _box((0.27, 0, 0.3), (0.13, 0.17, 0.4)),
        ),
        1,
    ),
    "tree": Shape(
        (0.95, 0.95, 1.5),
        (
            _round((0, 0, -0.35), (0.24, 0.24, 0.3)),
            _round((0, 0, -0.02), (1, 1, 0.46), 0.25),
            _round((0, 0, 0.28), (0.74, 0.74, 0.44), 0),
        ),
        0,
    ),
    "car": Shape(
        (1.6, 0.8, 0.7),
        (_box((0, 0, -0.06), (1, 0.9, 0.38)), _box((-0.08, 0, 0.31), (0.55, 0.8, 0.38)), *_wheels()),
        1,
    ),
    "snowman": Shape(
        (0.85, 0.85, 1.5),
        (
            _ball((0, 0, -0.24), (1, 1, 0.52)),
            _ball((0, 0, 0.12), (0.74, 0.74, 0.4)),
            _ball((0, 0, 0.37), (0.5, 0.5, 0.26)),
        ),
        0,
    ),
    "mushroom": Shape(
        (1.1, 1.1, 1.1),
        (_round((0, 0, -0.2), (0.34, 0.34, 0.6), 0.8), _ball((0, 0, 0), (1, 1, 1), 0.02)),
        0,
    ),
    "rocket": Shape(
        (0.8, 0.8, 1.6),
        (
            _round((0, 0, -0.1), (0.54, 0.54, 0.6)),
            _round((0, 0, 0.35), (0.54, 0.54, 0.3), 0),
            _box((0, 0, -0.36), (1, 0.12, 0.28)),
            _box((0, 0, -0.36), (0.12, 1, 0.28)),
        ),
        4,
    ),
    "chair": Shape(
        (0.85, 0.85, 1.3),
        (
            _box((0, 0, -0.06), (1, 1, 0.12)),
            _box((0, 0.43, 0.25), (1, 0.14, 0.5)),
            *_four(0.41, 0.41, -0.31, (0.18, 0.18, 0.38)),
        ),
        1,
    ),
    "bridge": Shape(
        (1.6, 0.6, 0.95),
        (
            _box((0, 0, 0.35), (1, 1, 0.3)),
            _box((-0.37, 0, -0.15), (0.26, 1, 0.7)),
            _box((0.37, 0, -0.15), (0.26, 1, 0.7)),
        ),
        2,
    ),
    "stairs": Shape(
        (1.2, 0.8, 0.95),
        (
            _box((0, 0, -1 / 3), (1, 1, 1 / 3)),
            _box((1 / 6, 0, 0), (2 / 3, 1, 1 / 3)),
            _box((1 / 3, 0, 1 / 3), (1 / 3, 1, 1 / 3)),
        ),
        1,
    ),
    "lamp": Shape(
        (0.9, 0.9, 1.5),
        (
            _round((0, 0, -0.46), (0.7, 0.7, 0.08)),
            _round((0, 0, -0.1), (0.14, 0.14, 0.7)),
            _round((0, 0, 0.28), (1, 1, 0.44), 0.5),
        ),
        0,
    ),
    "bottle": Shape(
        (0.65, 0.65, 1.5),
        (
            _round((0, 0, -0.2), (1, 1, 0.6)),
            _round((0, 0, 0.19), (1, 1, 0.18), 0.36),
            _round((0, 0, 0.38), (0.36, 0.36, 0.24)),
        ),
        0,
    ),
    "goblet": Shape(
        (0.85, 0.85, 1.35),
        (
            _round((0, 0, -0.46), (0.75, 0.75, 0.08)),
            _round((0, 0, -0.2), (0.14, 0.14, 0.5)),
            _round((0, 0, 0.25), (0.4, 0.4, 0.5), 2.5),
        ),
        0,
    ),
}
SOLIDS: dict[str, Shape] = {**PLAIN, **COMPOUND}


def enter(shape: str, origin: Array, rays: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Where rays enter a shape's unit box form.

    Args:
        shape: a key of `SOLIDS`.
        origin: [3] common to all rays, or [3, N].
        rays: [3, N] directions of any length.

    Returns:
        The ray parameter [N] of the first entry, `FAR` if there is none or it is behind; which part and face
        it is as an index [N] for `normals`, meaningless where there is none.
    """
    best, face = np.full(rays.shape[1], FAR), np.zeros(rays.shape[1], np.int64)
    for number, part in enumerate(SOLIDS[shape].parts):
        near, far, side = _span(part, origin, rays)
        hit = (near < far) & (near > 0) & (near < best)
        best[hit] = near[hit]
        face[hit] = number * 16 + side[hit]
    return best, face


def blocked(shape: str, origin: Array, ray: Array) -> npt.NDArray[np.bool_]:
    """Whether the ray [3] from each origin [3, N] meets the shape ahead of it, all in its unit box form."""
    hidden = np.zeros(origin.shape[1], np.bool_)
    for part in SOLIDS[shape].parts:
        near, far, _ = _span(part, origin, ray[:, None], sides=False)
        hidden |= (near < far) & (far > 1e-3) & (near > -1e-6)
    return hidden


def normals(shape: str, face: npt.NDArray[np.int64], at: Array) -> Array:
    """Outward normals [3, N], not of unit length, at entry points [3, N] on faces [N], in the unit box
    form."""
    out = np.empty_like(at)
    for number, part in enumerate(SOLIDS[shape].parts):
        own = face - number * 16
        mine = np.flatnonzero((own >= 0) & (own < 16))
        if not len(mine):
            continue
        side = own[mine]
        table = np.vstack((part.planes[:, :3], np.zeros(3)))
        out[:, mine] = table[np.minimum(side, len(part.planes))].T
        if part.quadric is not None:
            bent = mine[side == 15]
            slope = 2 * part.quadric.square[:, None] * at[:, bent] + part.quadric.linear[:, None]
            out[:, bent] = slope
    return out


def _span(
    part: Part, origin: Array, rays: Array, *, sides: bool = True
) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Entry and exit parameters of a convex part, and the entered face: a plane's row, or 15 for the
    quadric."""
    faces = part.planes[:, :3]
    slope = turned(faces, rays)
    slope[np.abs(slope) < _TINY] = _TINY
    start = turned(faces, origin)
    offset = part.planes[:, 3:] - (start if start.ndim == 2 else start[:, None])
    hit = offset / slope
    inward = slope < 0
    entries = np.where(inward, hit, -FAR)
    near, far = entries.max(0), np.where(inward, FAR, hit).min(0)
    side = (entries == near).argmax(0) if sides else np.empty(0, np.int64)
    if part.quadric is not None:
        low, high = _roots(part.quadric, origin, rays)
        if sides:
            side[low > near] = 15
        near, far = np.maximum(near, low), np.minimum(far, high)
    return near, far, side


def _roots(form: Quadric, origin: Array, rays: Array) -> tuple[Array, Array]:
    """The parameters between which rays are inside a quadric, or inside the wanted nappe of a cone."""
    start = origin if origin.ndim == 2 else origin[:, None]
    a = dotted(form.square, rays * rays)
    b = ((2 * form.square[:, None] * start + form.linear[:, None]) * rays).sum(0)
    c = (form.square[:, None] * start * start + form.linear[:, None] * start).sum(0) + form.constant
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    inside = b * b - 4 * a * c
    root, half = np.sqrt(np.maximum(inside, 0)), 0.5 / a
    one, two = (-b - root) * half, (-b + root) * half
    low, high = np.minimum(one, two), np.maximum(one, two)
    steep = a < 0  # inside the double cone before the first root and after the second: keep the wanted half
    towards = rays[form.axis] * form.nappe > 0
    late, early = np.where(steep & towards, high, low), np.where(steep & ~towards, low, high)
    late = np.where(steep & ~towards, -FAR, late)
    early = np.where(steep & towards, FAR, early)
    missed = inside <= 0
    return np.where(missed, FAR, late), np.where(missed, -FAR, early)
