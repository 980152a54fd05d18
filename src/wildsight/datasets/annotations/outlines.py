"""From a mask to polygons that give it back: they run along the outer edges of its pixels.

Tracing libraries put an outline through the middle of the border pixels, which loses half a pixel all around:
a disc of ten pixels then comes back with an IoU of 0.9. Along the edges it comes back whole.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def polygons_of(mask: NDArray[np.bool_]) -> list[Points]:
    """One closed polygon [N, 2] of x, y for each 8-connected part of a mask [H, W], in whole pixels.

    A hole is joined to the outline around it by a seam without width, so that each polygon stands alone.

    >>> polygons_of(np.ones((2, 3), bool))[0].tolist()
    [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]]
    """
    return [joined(rings) for rings in rings_of(mask)]


def rings_of(mask: NDArray[np.bool_]) -> list[list[Points]]:
    """For each part of a mask its outer ring, then its holes; corners alone, in whole pixels."""
    from contourpy import FillType, contour_generator

    values = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2))
    values[1:-1, 1:-1] = mask
    filled: Any = contour_generator(z=values, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    parts, offsets = filled
    return [
        [_corners(points[start:end] - 0.5) for start, end in pairwise(cuts)]
        for points, cuts in zip(parts, offsets, strict=True)
    ]


def _corners(middles: Points) -> Points:
    """The corners of a ring that is given by the middles of pixel edges: where one step turns."""
    first, then = middles[:-1], np.roll(middles[:-1], -1, axis=0)
    turns = (first != then).all(axis=1)
    first, then = first[turns], then[turns]
    upright = first[:, :1] == np.round(first[:, :1])
    corners = np.where(
        upright, np.stack([first[:, 0], then[:, 1]], 1), np.stack([then[:, 0], first[:, 1]], 1)
    )
    start = int(np.lexsort((corners[:, 0], corners[:, 1]))[0])
    return np.roll(corners, -start, axis=0)


def joined(rings: list[Points]) -> Points:
    """One path around a part: to each hole along the shortest seam, around it, and back."""
    from scipy.spatial import cKDTree

    path = rings[0]
    for hole in sorted(rings[1:], key=lambda ring: float(ring[:, 0].min())):
        distances, nearest = cKDTree(path).query(hole)
        at = int(distances.argmin())
        cut = int(nearest[at])
        path = np.concatenate([path[: cut + 1], np.roll(hole, -at, axis=0), hole[at : at + 1], path[cut:]])
    return path
