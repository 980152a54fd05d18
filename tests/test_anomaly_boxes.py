"""Heat map to boxes: against a flood fill written from the definition, and the edges of each setting."""

from __future__ import annotations

import numpy as np
import pytest

from wildsight.anomaly.boxes import boxes_of
from wildsight.errors import ConfigError


def slow_regions(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """8-connected regions by flood fill."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def test_boxes_are_those_of_the_flood_fill() -> None:
    heat = np.random.default_rng(0).random((40, 30))
    expected = set()
    for region in slow_regions(heat > 0.75):
        if len(region) >= 3:
            ys, xs = [y for y, _ in region], [x for _, x in region]
            box = (float(min(xs)), float(min(ys)), float(max(xs) + 1), float(max(ys) + 1))
            expected.add((box, max(heat[p] for p in region), len(region)))
    found = boxes_of(heat, 0.75, min_area=3, padding=0.0, limit=1000)
    assert {(b.xyxy, b.score, b.area) for b in found} == expected
    assert [b.score for b in found] == sorted((b.score for b in found), reverse=True)


def test_scale_moves_with_the_picture() -> None:
    heat = np.zeros((20, 20))
    heat[5:10, 2:8] = 1.0
    (small,) = boxes_of(heat, 0.5)
    (large,) = boxes_of(heat, 0.5, picture_size=(200, 60))
    assert large.xyxy == pytest.approx(tuple(v * s for v, s in zip(small.xyxy, (10, 3, 10, 3), strict=True)))


def test_padding_stays_inside_and_small_regions_go() -> None:
    heat = np.zeros((10, 10))
    heat[0:4, 0:4] = 3.0
    heat[8, 8] = 9.0
    (box,) = boxes_of(heat, 1.0, padding=0.5)
    assert box.xyxy == (0.0, 0.0, 6.0, 6.0) and box.area == 16
    assert [b.score for b in boxes_of(heat, 1.0, min_area=1)] == [9.0, 3.0]
    assert len(boxes_of(heat, 1.0, min_area=1, limit=1)) == 1


def test_nothing_above() -> None:
    assert boxes_of(np.ones((5, 5)), 1.0) == []


@pytest.mark.parametrize("heat", [np.zeros(5), np.full((3, 3), np.nan)])
def test_not_a_map(heat: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="finite"):
        boxes_of(heat, 0.0)
