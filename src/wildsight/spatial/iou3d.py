"""Exact volume that two boxes share, for any rotations, batched, without a compiled extension.

A convex body's volume is a third of the sum over its faces of (distance of the face's plane) x (area), and a
convex polygon's area half the sum over its edges of (distance of the line) x (length). Both hold for the
intersection of two boxes, whose faces lie in the twelve planes of the boxes; what is left of a plane, or of a
line, is an interval cut by slabs, which needs no sorting. Planes (lines) that coincide count once.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError

Array: TypeAlias = npt.NDArray[np.float64]
SAME = 1e-8  # angle in radians, or distance in units of the larger box, below which two planes are one
CHUNK = 2048
LOOSE = 1e-12  # how far R R^T may lie from the unit matrix; beyond it a rotation is made one again


def iou_3d(
    centre: Array, size: Array, rotation: Array, centre2: Array, size2: Array, rotation2: Array
) -> Array:
    """Intersection over union [N] of N pairs of boxes.

    Args:
        centre, centre2: [N, 3], metres.
        size, size2: [N, 3], extents along the boxes' own axes, metres; 0 or less gives IoU 0.
        rotation, rotation2: [N, 3, 3], box to camera; of float32, or written with few digits, the nearest
            rotation counts.

    Raises:
        ConfigError: shapes that do not fit.

    >>> one = np.zeros((1, 3)), np.ones((1, 3)), np.eye(3)[None]
    >>> iou_3d(*one, one[0] + 0.5, *one[1:]).round(4).tolist()
    [0.0667]
    """
    first = [np.asarray(v, np.float64) for v in (centre, size, rotation)]
    second = [np.asarray(v, np.float64) for v in (centre2, size2, rotation2)]
    n = len(first[0])
    if any(v.shape != (n, *((3, 3) if i % 3 == 2 else (3,))) for i, v in enumerate((*first, *second))):
        raise ConfigError("boxes of other shapes than [N, 3], [N, 3], [N, 3, 3]", hint="pair them up")
    first[2], second[2] = nearest_rotation(first[2]), nearest_rotation(second[2])
    shared = np.zeros(n)
    near = _near(first, second)
    level = near & _level(first[2]) & _level(second[2])
    for chosen, measure in ((level, _shared_level), (near & ~level, _shared_any)):
        rows = np.flatnonzero(chosen)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            shared[part] = measure([v[part] for v in first], [v[part] for v in second])
    volumes = [np.clip(v[1], 0.0, None).prod(1) for v in (first, second)]
    union = volumes[0] + volumes[1] - shared
    return np.clip(np.divide(shared, union, out=np.zeros(n), where=union > 0), 0.0, 1.0)


def nearest_rotation(rotation: Array) -> Array:
    """The orthonormal matrices [N, 3, 3] that lie nearest; what is orthonormal already stays as it is."""
    away = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2), initial=0.0)
    rows = np.flatnonzero(away > LOOSE)
    if not len(rows):
        return rotation
    left, _, right = np.linalg.svd(rotation[rows])
    mended = rotation.copy()
    mended[rows] = left @ right
    return mended


def iou_3d_matrix(
    centre: Array, size: Array, rotation: Array, centre2: Array, size2: Array, rotation2: Array
) -> Array:
    """Intersection over union [N, M] of every pair of N and M boxes; see `iou_3d`."""
    n, m = len(centre), len(centre2)
    turned, turned2 = (nearest_rotation(np.asarray(v, np.float64)) for v in (rotation, rotation2))
    one = [np.repeat(np.asarray(v, np.float64), m, axis=0) for v in (centre, size, turned)]
    two = [np.concatenate([np.asarray(v, np.float64)] * n) if n else np.asarray(v, np.float64)[:0]
           for v in (centre2, size2, turned2)]  # fmt: skip
    return iou_3d(*one, *two).reshape(n, m)


def box_of_corners(corners: Array) -> tuple[Array, Array, Array]:
    """Centre [N, 3], size [N, 3] and rotation [N, 3, 3] of corners [N, 8, 3] in the order of
    `geometry.corners`.

    Raises:
        ConfigError: corners of no box: sides that are not parallel or not square, by over a hundredth.
    """
    points = np.asarray(corners, np.float64)
    edges = np.stack([points[:, i] - points[:, 0] for i in (1, 3, 4)], 1)
    size = np.linalg.norm(edges, axis=2)
    axes = edges / np.maximum(size, 1e-12)[..., None]
    turned = nearest_rotation(axes).transpose(0, 2, 1)
    centre = points.mean(1)
    signs = np.array([(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1)], float)
    signs = np.concatenate([signs, signs * (1, 1, -1)]) / 2
    again = (signs * size[:, None]) @ turned.transpose(0, 2, 1) + centre[:, None]
    if bool((np.abs(again - points).max((1, 2)) > 0.01 * np.maximum(size.max(1), 1e-9)).any()):
        raise ConfigError("corners that form no box", hint="give them in the order of geometry.corners")
    return centre, size, turned


def _near(first: list[Array], second: list[Array]) -> npt.NDArray[np.bool_]:
    """Pairs whose bounding spheres meet and that both have a volume and a rotation."""
    solid = (first[1] > 0).all(1) & (second[1] > 0).all(1)
    solid &= np.isfinite(first[2]).all((1, 2)) & np.isfinite(second[2]).all((1, 2))
    reach = (np.linalg.norm(first[1], axis=1) + np.linalg.norm(second[1], axis=1)) / 2
    near = np.linalg.norm(first[0] - second[0], axis=1) <= reach
    return np.asarray(solid & near)


def _level(rotation: Array) -> npt.NDArray[np.bool_]:
    """Rotations about the y axis alone, to the last bits."""
    down = (0.0, 1.0, 0.0)
    away = np.maximum(np.abs(rotation[:, 1] - down), np.abs(rotation[:, :, 1] - down)).max(1)
    return np.asarray(away <= 1e-15)


def _centred(first: list[Array], second: list[Array]) -> tuple[list[Array], list[Array], Array]:
    """The pair about its mean centre, in units of the largest extent."""
    middle = (first[0] + second[0]) / 2
    unit = np.maximum(first[1].max(1), second[1].max(1))
    one, two = ([(v[0] - middle) / unit[:, None], v[1] / unit[:, None], v[2]] for v in (first, second))
    return one, two, unit**3


def _shared_level(first: list[Array], second: list[Array]) -> Array:
    """Shared volume of pairs turned about y alone: the area from above times the shared height."""
    one, two, scale = _centred(first, second)
    normals, low, high = [], [], []
    for centre, size, rotation in (one, two):
        axes = rotation[:, ::2][:, :, ::2].transpose(0, 2, 1)
        middle = np.einsum("nad,nd->na", axes, centre[:, ::2])
        normals.append(axes)
        low.append(middle - size[:, ::2] / 2)
        high.append(middle + size[:, ::2] / 2)
    area = slab_area(np.concatenate(normals, 1), np.concatenate(low, 1), np.concatenate(high, 1))
    top = np.minimum(one[0][:, 1] + one[1][:, 1] / 2, two[0][:, 1] + two[1][:, 1] / 2)
    bottom = np.maximum(one[0][:, 1] - one[1][:, 1] / 2, two[0][:, 1] - two[1][:, 1] / 2)
    return area * np.clip(top - bottom, 0.0, None) * scale


def _shared_any(first: list[Array], second: list[Array]) -> Array:
    """Shared volume of pairs turned in any way: over the planes of both boxes, distance x area / 3."""
    one, two, scale = _centred(first, second)
    total = _faces(one, two, own=True) + _faces(two, one, own=False)
    return np.clip(total / 3, 0.0, None) * scale


def _faces(box: list[Array], other: list[Array], *, own: bool) -> Array:
    """Sum over the six faces of ``box`` of the plane's distance times what ``other`` leaves of the face.

    Args:
        own: whether ``box`` counts a face that lies in one plane with a face of ``other``.
    """
    (centre, size, rotation), half2 = box, other[1] / 2
    between = rotation.transpose(0, 2, 1) @ other[2]
    seen = (other[2].transpose(0, 2, 1) @ (centre - other[0])[..., None])[..., 0]
    height = (rotation.transpose(0, 2, 1) @ centre[..., None])[..., 0]
    total = np.zeros(len(centre))
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        across = np.stack((between[:, i], between[:, j]), 2)
        length = np.hypot(across[..., 0], across[..., 1])
        flat = length < SAME
        for side in (-1.0, 1.0):
            point = seen + side * between[:, k] * size[:, k, None] / 2
            low, high = -half2 - point, half2 - point
            shown = _shown(low, high, flat, side * between[:, k], own)
            rows = np.flatnonzero(shown)
            if len(rows):
                half = size[rows][:, (i, j)] / 2
                area = _face_area(half, across[rows], low[rows], high[rows], length[rows], flat[rows])
                total[rows] += (side * height[rows, k] + size[rows, k] / 2) * area
    return total


def _shown(
    low: Array, high: Array, flat: npt.NDArray[np.bool_], facing: Array, own: bool
) -> npt.NDArray[np.bool_]:
    """Whether a face [N] can count: it lies between the planes of the slabs [N, 3] that it is parallel to."""
    shown = np.asarray(np.where(flat, (low <= SAME) & (high >= -SAME), True).all(1))
    if not flat.any():
        return shown
    same = flat & (np.abs(np.where(facing > 0, high, low)) <= SAME)
    shown &= ~np.where(flat & ~same, np.minimum(np.abs(low), np.abs(high)) <= SAME, False).any(1)
    return shown if own else np.asarray(shown & ~same.any(1))


def _face_area(
    half: Array, across: Array, low: Array, high: Array, length: Array, flat: npt.NDArray[np.bool_]
) -> Array:
    """Area [N] of a face's rectangle within the other box's slabs, in the face's own plane."""
    safe = np.where(flat, 1.0, length)
    eye = np.broadcast_to(np.eye(2), (len(half), 2, 2))
    normals = np.concatenate((eye, np.where(flat[..., None], (1.0, 0.0), across / safe[..., None])), 1)
    low = np.concatenate((-half, np.where(flat, -9.0, low / safe)), 1)
    high = np.concatenate((half, np.where(flat, 9.0, high / safe)), 1)
    return slab_area(normals, low, high)


def slab_area(normals: Array, low: Array, high: Array) -> Array:
    """Area [N] of the polygon low_s <= n_s . x <= high_s over S slabs: half the sum of distance x length.

    Args:
        normals: [N, S, 2] of length 1.
        low, high: [N, S].
    """
    x, y = normals[..., 0].T.copy(), normals[..., 1].T.copy()
    turn = x[:, None] * y[None] - y[:, None] * x[None]
    upper = np.triu_indices(len(x), 1)
    parallel = (np.abs(turn[upper]) < SAME).any(0)
    area = np.zeros(len(normals))
    if parallel.any():
        area[parallel] = _area_with_parallels(normals[parallel], low[parallel], high[parallel])
    clear = ~parallel
    if clear.any():
        part = slice(None) if clear.all() else clear
        area[part] = _area(x[:, part], y[:, part], turn[..., part], low[part].T, high[part].T)
    return np.clip(area, 0.0, None, out=area)


def _area(x: Array, y: Array, turn: Array, low: Array, high: Array) -> Array:
    """`slab_area` where no two slabs are parallel: arrays [S, N], and sines between normals [S, S, N]."""
    middle, half = (low + high) / 2, (high - low) / 2
    total = np.zeros(x.shape[1])
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        rates = {j: 1.0 / turn[i, j] for j in others}
        reach = {j: half[j] * np.abs(rates[j]) for j in others}
        aligned = {j: (x[i] * x[j] + y[i] * y[j]) * rates[j] for j in others}
        across = {j: middle[j] * rates[j] for j in others}
        for distance, sign in ((low[i], -0.5), (high[i], 0.5)):
            begin, end = np.full(x.shape[1], -np.inf), np.full(x.shape[1], np.inf)
            for j in others:
                at = across[j] - distance * aligned[j]
                np.maximum(begin, at - reach[j], out=begin)
                np.minimum(end, at + reach[j], out=end)
            total += sign * distance * np.maximum(end - begin, 0.0)
    return total


def _area_with_parallels(normals: Array, low: Array, high: Array) -> Array:
    """`slab_area` for any slabs; lines that coincide count once."""
    lines = np.concatenate((-normals, normals), 1)
    distance = np.concatenate((-low, high), 1)
    along = np.stack((-lines[..., 1], lines[..., 0]), -1)
    point = lines * distance[..., None]
    rate = np.einsum("nld,nsd->nls", along, normals)
    at = np.einsum("nld,nsd->nls", point, normals)
    flat = np.abs(rate) < SAME
    safe = np.where(flat, 1.0, rate)
    ends = (low[:, None] - at) / safe, (high[:, None] - at) / safe
    begin = np.where(flat, -np.inf, np.minimum(*ends)).max(2)
    end = np.where(flat, np.inf, np.maximum(*ends)).min(2)
    inside = np.where(flat, (at >= low[:, None] - SAME) & (at <= high[:, None] + SAME), True).all(2)
    edge = np.where(inside & _first_of_its_line(lines, distance), np.clip(end - begin, 0.0, None), 0.0)
    area: Array = (distance * edge).sum(1) / 2
    return area


def _first_of_its_line(lines: Array, distance: Array) -> npt.NDArray[np.bool_]:
    """Lines [N, L] of which no earlier one is the same half-plane."""
    turned = np.abs(lines[:, :, None, 0] * lines[:, None, :, 1] - lines[:, :, None, 1] * lines[:, None, :, 0])
    facing = np.einsum("nad,nbd->nab", lines, lines) > 0
    same = (turned < SAME) & facing & (np.abs(distance[:, :, None] - distance[:, None]) <= SAME)
    first: npt.NDArray[np.bool_] = ~np.tril(same, -1).any(2)
    return first
