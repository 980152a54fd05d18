"""Overlap of outlines: IoU, and boundary IoU, which thin defects cannot hide from.

Per picture, then the mean over a category's pictures, then the unweighted mean over categories.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]
BOUNDARY_SHARE = 0.02


def iou(first: Bools, second: Bools) -> float:
    """Intersection over union of two [H, W] masks; 1 when both are empty.

    >>> iou(np.array([[True, True]]), np.array([[True, False]]))
    0.5
    """
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0


def boundary_width(height: int, width: int) -> int:
    """d = max(1, round(0.02 * diagonal)), pixels.

    >>> boundary_width(1024, 1024)
    29
    """
    return max(1, round(BOUNDARY_SHARE * math.hypot(height, width)))


def erode(mask: Bools, steps: int) -> Bools:
    """``steps`` erosions by 3 x 3, in one separable minimum; outside the picture is background."""
    side = 2 * steps + 1
    values = mask.astype(np.uint8)
    small: Bools = ndimage.minimum_filter(values, size=(side, side), mode="constant", cval=0) > 0
    return small


def boundary(mask: Bools, steps: int) -> Bools:
    """The pixels of the mask within ``steps`` of its edge, the picture's border counting as edge."""
    return mask & ~erode(mask, steps)


def boundary_iou(first: Bools, second: Bools) -> float:
    """IoU of two masks' boundaries; 1 when both are empty."""
    steps = boundary_width(*first.shape)
    return iou(boundary(first, steps), boundary(second, steps))


def mean_rows(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row per category, the mean over its pictures, then ``mean`` over the categories.

    Args:
        rows: one mapping per picture with ``category`` and the metrics.
        keys: the metrics.

    >>> mean_rows([{"category": "a", "iou": 1.0}, {"category": "a", "iou": 0.0}], ["iou"])[-1]
    {'category': 'mean', 'pictures': 2, 'iou': 0.5}
    """
    many = list(rows)
    names = sorted({r["category"] for r in many})
    table = []
    for name in names:
        own = [r for r in many if r["category"] == name]
        means = {k: float(np.mean([r[k] for r in own])) for k in keys}
        table.append({"category": name, "pictures": len(own), **means})
    total = {k: float(np.mean([r[k] for r in table])) for k in keys} if table else {}
    return [*table, {"category": "mean", "pictures": len(many), **total}]
