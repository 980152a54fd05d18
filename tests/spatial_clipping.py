"""The slow way to the volume that two boxes share: a polyhedron clipped plane by plane, pair by pair."""

from __future__ import annotations

import numpy as np

FACES = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (3, 7, 6, 2), (0, 4, 7, 3), (1, 2, 6, 5))
_HALF = ((-1, -1), (1, -1), (1, 1), (-1, 1))
ON_PLANE = 1e-9  # a point this near to a plane lies on it: the faces of two boxes may coincide
SIGNS = np.array([(x, y, z) for z in (-1, 1) for x, y in _HALF], float)


def clipped(polygon: list[np.ndarray], normal: np.ndarray, limit: float) -> tuple[list, list]:
    """The part of a polygon with normal . x <= limit, and the points on the cut."""
    out, cut = [], []
    for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        da, db = a @ normal - limit, b @ normal - limit
        if da <= ON_PLANE:
            out.append(a)
        if (da <= ON_PLANE) != (db <= ON_PLANE):
            p = a + da / (da - db) * (b - a)
            out.append(p)
            cut.append(p)
    return out, cut


def ordered(points: list[np.ndarray], normal: np.ndarray) -> list[np.ndarray]:
    """Points of a convex polygon around their mean, seen against ``normal``."""
    centre = np.mean(points, axis=0)
    u = points[0] - centre
    v = np.cross(normal, u)
    return sorted(points, key=lambda p: np.arctan2((p - centre) @ v, (p - centre) @ u))


def shared_volume(c1, s1, r1, c2, s2, r2) -> float:
    """Volume that two boxes share."""
    corners = (SIGNS / 2 * s1) @ r1.T + c1
    faces = [[corners[i] for i in f] for f in FACES]
    for axis in range(3):
        for side in (-1, 1):
            normal = side * r2[:, axis]
            limit = normal @ c2 + s2[axis] / 2
            parts = [clipped(f, normal, limit) for f in faces]
            faces = [p for p, _ in parts if len(p) > 2]
            cut = [q for _, c in parts for q in c]
            if len(cut) > 2:
                faces.append(ordered(cut, normal))
            if not faces:
                return 0.0
    inside = np.mean([p for f in faces for p in f], axis=0)
    total = 0.0
    for f in faces:
        for i in range(1, len(f) - 1):
            total += abs(np.dot(f[0] - inside, np.cross(f[i] - inside, f[i + 1] - inside))) / 6
    return float(total)


def slow_iou(c1, s1, r1, c2, s2, r2) -> float:
    shared = shared_volume(c1, s1, r1, c2, s2, r2)
    return shared / (s1.prod() + s2.prod() - shared)
