"""IoU, boundary IoU and the means over them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wildsight.segmentation.metrics import (
    boundary,
    boundary_iou,
    boundary_width,
    erode,
    iou,
    mean_rows,
)


def disc(row: int, column: int, radius: int, size: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def slow_boundary_iou(a: np.ndarray, b: np.ndarray) -> float:
    """By iterated erosion with the border as background, pixel sets counted."""
    d = max(1, round(0.02 * np.sqrt(a.shape[0] ** 2 + a.shape[1] ** 2)))
    edges = []
    for mask in (a, b):
        small = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=0)
        edges.append({(int(r), int(c)) for r, c in np.argwhere(mask & ~small)})
    return len(edges[0] & edges[1]) / len(edges[0] | edges[1])


def test_iou_counts_pixels() -> None:
    a, b = disc(30, 30, 10), disc(30, 34, 10)
    assert iou(a, b) == pytest.approx((a & b).sum() / (a | b).sum())
    assert iou(a, a) == 1.0 and iou(a, ~a) == 0.0
    assert iou(a & False, b & False) == 1.0


def test_box_erosion_equals_iterated_erosion() -> None:
    mask = disc(20, 25, 14) | disc(2, 50, 9)
    for steps in (1, 2, 4):
        slow = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=steps, border_value=0)
        assert np.array_equal(erode(mask, steps), slow)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_boundary_iou_of_shifted_discs_matches_brute_force(shift: int) -> None:
    a, b = disc(30, 28, 15), disc(30, 28 + shift, 15)
    assert boundary_iou(a, b) == pytest.approx(slow_boundary_iou(a, b))


def test_boundary_iou_ends() -> None:
    a, empty = disc(30, 30, 12), np.zeros((60, 60), bool)
    assert boundary_iou(a, a) == 1.0
    assert boundary_iou(a, empty) == 0.0
    assert boundary_iou(empty, empty) == 1.0


def test_a_whole_picture_has_its_border_as_boundary() -> None:
    full = np.ones((50, 50), bool)
    assert boundary(full, 1).sum() == 4 * 49


def test_golden_values() -> None:
    assert boundary_width(1024, 1024) == 29
    assert boundary_width(20, 20) == 1
    a, b = disc(30, 30, 15), disc(31, 30, 15)
    assert iou(a, b) == pytest.approx(0.9162162162162162)
    assert boundary_iou(a, b) == pytest.approx(0.5942028985507246)


def test_invariants() -> None:
    a, b = disc(25, 30, 11), disc(28, 33, 12)
    for score in (iou, boundary_iou):
        assert score(a, b) == score(b, a)
        assert score(a[::-1], b[::-1]) == score(a, b)
        assert score(a.T, b.T) == score(a, b)


def test_mean_over_categories_is_unweighted() -> None:
    rows = [{"category": "a", "iou": 1.0}, {"category": "a", "iou": 0.5}, {"category": "b", "iou": 0.0}]
    table = mean_rows(rows, ["iou"])
    assert [r["iou"] for r in table] == [0.75, 0.0, 0.375]
    assert table[-1]["category"] == "mean"
