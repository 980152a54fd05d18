"""From a heat map to boxes: what a promptable segmenter is to outline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wildsight.errors import ConfigError


@dataclass(frozen=True)
class AnomalyBox:
    """One connected region above the threshold.

    Attributes:
        xyxy: left, top, right, bottom in pixels of the picture; right and bottom are the first outside.
        score: highest value of the map in the region.
        area: pixels of the region, on the map.
    """

    xyxy: tuple[float, float, float, float]
    score: float
    area: int


def boxes_of(
    heat: NDArray[np.floating[Any]],
    threshold: float,
    *,
    picture_size: tuple[int, int] | None = None,
    min_area: int = 9,
    padding: float = 0.05,
    limit: int = 8,
) -> list[AnomalyBox]:
    """Boxes around the 8-connected regions of ``heat > threshold``, highest peak first.

    Args:
        heat: [H, W] finite map.
        threshold: a region's pixels lie above it.
        picture_size: (width, height) of the picture that the map was stretched from; the map's own
            size if None.
        min_area: regions of fewer pixels, on the map, are dropped.
        padding: each side moves outwards by this share of the box's width or height, inside the picture.
        limit: boxes at most.

    Raises:
        ConfigError: a map that is not two-dimensional or not finite, or a negative setting.

    >>> heat = np.zeros((10, 10)); heat[2:5, 3:7] = 2.0
    >>> boxes_of(heat, 1.0, picture_size=(100, 50), padding=0.0)
    [AnomalyBox(xyxy=(30.0, 10.0, 70.0, 25.0), score=2.0, area=12)]
    """
    _check(heat, min_area, padding, limit)
    height, width = heat.shape
    across, down = (1.0, 1.0) if picture_size is None else (picture_size[0] / width, picture_size[1] / height)
    regions, _ = ndimage.label(heat > threshold, structure=np.ones((3, 3), dtype=bool))
    found = []
    for number, place in enumerate(ndimage.find_objects(regions), start=1):
        inside = regions[place] == number
        area = int(inside.sum())
        if area >= min_area:
            rows, columns = place
            left, right = _padded(columns, padding, width, across)
            top, bottom = _padded(rows, padding, height, down)
            found.append(AnomalyBox((left, top, right, bottom), float(heat[place][inside].max()), area))
    return sorted(found, key=lambda box: (-box.score, box.xyxy))[:limit]


def regions_of(
    heat: NDArray[np.floating[Any]], threshold: float, *, min_area: int = 9
) -> list[tuple[NDArray[np.bool_], float]]:
    """The 8-connected regions of ``heat > threshold``, [H, W] bool each, with their peaks, highest first.

    Raises:
        ConfigError: as `boxes_of`.
    """
    _check(heat, min_area, 0.0, 0)
    numbered, count = ndimage.label(heat > threshold, structure=np.ones((3, 3), dtype=bool))
    regions = [numbered == number for number in range(1, count + 1)]
    found = [(region, float(heat[region].max())) for region in regions if region.sum() >= min_area]
    return sorted(found, key=lambda item: -item[1])


def _padded(span: slice, padding: float, size: int, scale: float) -> tuple[float, float]:
    """Both ends of one side in the picture's pixels."""
    more = padding * (span.stop - span.start)
    return max(0.0, span.start - more) * scale, min(float(size), span.stop + more) * scale


def _check(heat: NDArray[np.floating[Any]], min_area: int, padding: float, limit: int) -> None:
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ConfigError(f"a map of shape {heat.shape} is not [H, W] of finite numbers", hint="give one map")
    settings: Sequence[float] = (min_area, padding, limit)
    if any(value < 0 or not math.isfinite(value) for value in settings):
        raise ConfigError("min_area, padding and limit must be 0 or more", hint="leave them out")
