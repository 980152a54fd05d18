"""The lines by which a person would draw a solid: creases, rims and outlines, in its shape's unit box.

Creases and rims belong to the shape; the outline of a round part depends on where the eye is, and is exact:
a cone is touched along its generators, a ball along the circle in which the eye's polar plane cuts it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np

from wildsight.world.shapes3d import SOLIDS, Array, Part
from wildsight.world.sums import dotted, lengths, turned

_CIRCLE = np.linspace(0, 2 * np.pi, 49)
_NEAR = 1e-5  # what is nearer than this is one point: far above any rounding, far below any detail


def lines_of(shape: str, eye: Array) -> list[Array]:
    """Polylines, each [N, 3], of a shape seen from ``eye`` [3], all in its unit box form, hidden ones
    included."""
    lines = list(_fixed(shape))
    for part in SOLIDS[shape].parts:
        if part.quadric is not None:
            lines += _outline(part, eye)
    return lines


@lru_cache(maxsize=64)
def _fixed(shape: str) -> tuple[Array, ...]:
    lines: list[Array] = []
    for part in SOLIDS[shape].parts:
        lines += _creases(part.planes) if part.quadric is None else _rims(part)
    return tuple(lines)


def _creases(planes: Array) -> list[Array]:
    """Edges of a convex polyhedron given by half-spaces [P, 4]."""
    vertices: list[tuple[Array, frozenset[int]]] = []
    for triple in combinations(range(len(planes)), 3):
        at = _met(planes[list(triple)])
        if at is None:
            continue
        room = turned(planes[:, :3], at) - planes[:, 3]
        if room.max() < _NEAR and not any(np.allclose(at, other, atol=_NEAR) for other, _ in vertices):
            vertices.append((at, frozenset(np.flatnonzero(room > -_NEAR).tolist())))
    ends = [(a, b) for (a, p), (b, q) in combinations(vertices, 2) if len(p & q) >= 2]
    return [np.linspace(a, b, 13) for a, b in ends]


def _met(planes: Array) -> Array | None:
    """The point [3] in which three planes [3, 4] meet, by Cramer's rule; None where it is not one point."""
    one, two, three = planes[:, :3]
    opposite: Array = np.stack((np.cross(two, three), np.cross(three, one), np.cross(one, two)))
    volume = float(dotted(one, opposite[0]))
    if abs(volume) < _NEAR:
        return None
    return turned(opposite.T, planes[:, 3]) / volume


def _ring(part: Part, axis: int, level: float) -> Array | None:
    """The circle [N, 3] in which the plane ``axis`` = ``level`` cuts a round part; None when it is a
    point."""
    form = part.quadric
    if form is None:
        return None
    one, two = [a for a in range(3) if a != axis]
    centre = np.zeros(3)
    for a in (one, two):
        centre[a] = -form.linear[a] / (2 * form.square[a])
    rest = form.square[axis] * level**2 + form.linear[axis] * level + form.constant
    rest -= sum(form.square[a] * centre[a] ** 2 for a in (one, two))
    if rest > -1e-9:
        return None
    ring = np.zeros((len(_CIRCLE), 3))
    ring[:, axis] = level
    ring[:, one] = centre[one] + np.sqrt(-rest / form.square[one]) * np.cos(_CIRCLE)
    ring[:, two] = centre[two] + np.sqrt(-rest / form.square[two]) * np.sin(_CIRCLE)
    return ring


def _caps(part: Part) -> tuple[int, float, float]:
    """Axis of the two caps and their low and high levels."""
    axis = int(np.abs(part.planes[0, :3]).argmax())
    levels = part.planes[:, 3] / part.planes[:, axis]
    return axis, float(levels.min()), float(levels.max())


def _rims(part: Part) -> list[Array]:
    axis, low, high = _caps(part)
    rings = [_ring(part, axis, level) for level in (low, high)]
    return [ring for ring in rings if ring is not None]


def _outline(part: Part, eye: Array) -> list[Array]:
    form = part.quadric
    if form is None:
        return []
    if (form.square > 0).all():
        return _ball_outline(part, eye)
    axis, low, high = _caps(part)
    middle = _ring(part, axis, (low + high) / 2)
    if middle is None:
        return []
    slope = ((2 * form.square * middle + form.linear) * (middle - eye)).sum(1)
    lines = []
    for at in np.flatnonzero(np.sign(slope[:-1]) != np.sign(slope[1:])):
        share = slope[at] / (slope[at] - slope[at + 1])
        angle = _CIRCLE[at] + share * (_CIRCLE[at + 1] - _CIRCLE[at])
        lines.append(np.linspace(_on(part, axis, low, angle), _on(part, axis, high, angle), 13))
    return lines


def _on(part: Part, axis: int, level: float, angle: float) -> Array:
    """The point [3] of a round part at an angle on the ring at ``level``; the apex where the ring is a
    point."""
    ring = _ring(part, axis, level)
    if ring is None:
        middle = _ring(part, axis, 0.5 * sum(_caps(part)[1:]))
        point: Array = np.zeros(3) if middle is None else middle[:-1].mean(0)
        point[axis] = level
        return point
    return np.array([np.interp(angle, _CIRCLE, ring[:, a]) for a in range(3)])


def _ball_outline(part: Part, eye: Array) -> list[Array]:
    form = part.quadric
    if form is None:
        return []
    centre = -form.linear / (2 * form.square)
    radii = np.sqrt((form.square * centre**2).sum() - form.constant) / np.sqrt(form.square)
    towards = (eye - centre) / radii  # tangency survives the change to a unit ball
    far = float(lengths(towards))
    if far <= 1.0:
        return []
    axis = towards / far
    side = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
    side = side / lengths(side)
    wide = np.sqrt(1 - 1 / far**2)
    around = wide * (np.cos(_CIRCLE)[:, None] * side + np.sin(_CIRCLE)[:, None] * np.cross(axis, side))
    ring = centre + radii * (axis / far + around)
    inside = (turned(part.planes[:, :3], ring.T) <= part.planes[:, 3:] + _NEAR).all(0)
    return runs(ring, inside)


def runs(line: Array, keep: np.ndarray) -> list[Array]:
    """The stretches of a polyline [N, 3 or 2] where ``keep`` [N] holds."""
    if keep.all():
        return [line]
    ends = np.flatnonzero(np.diff(np.concatenate(([0], keep.astype(int), [0]))))
    return [line[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True) if b - a > 1]
