"""Noise from whole numbers: exact values, its distribution, and that it is continuous."""

import numpy as np
import pytest

from wildsight.world.hashed import mixed, noise_of_cells, rough_noise
from wildsight.world.sums import dotted, lengths, turned


def mixed_by_hand(code):
    """Chris Wellons's lowbias32 on a Python integer."""
    code ^= code >> 16
    code = code * 0x7FEB352D % 2**32
    code ^= code >> 15
    code = code * 0x846CA68B % 2**32
    return code ^ (code >> 16)


def test_mixing_agrees_with_the_plain_form_and_is_exact():
    codes = np.random.default_rng(0).integers(0, 2**32, 500, dtype=np.uint32)
    assert mixed(codes).tolist() == [mixed_by_hand(int(c)) for c in codes]
    assert mixed(np.arange(4, dtype=np.uint32)).tolist() == [0, 1753845952, 3507691905, 1408362973]


def test_cells_have_exact_values_their_own():
    cells = np.stack(np.meshgrid(np.arange(-30, 30), np.arange(-30, 30))).reshape(2, -1).astype(np.float32)
    values = noise_of_cells(cells, 5)
    assert values[:3].tolist() == GOLDEN
    assert len(np.unique(values)) == 3600
    assert not np.array_equal(values, noise_of_cells(cells, 6))
    assert abs(values.mean()) < 0.03 and values.var() == pytest.approx(1 / 3, rel=0.05)
    grid = values.reshape(60, 60)
    for one, two in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05


GOLDEN = [-0.8561404943466187, 0.9750832319259644, 0.26933038234710693]  # 24 bits over 2**23: exact


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_rough_noise_has_the_moments_of_an_even_one_and_no_jumps(axes):
    rng = np.random.default_rng(axes)
    at = rng.uniform(-500, 500, (axes, 20_000)).astype(np.float32)
    values = rough_noise(at, 9)
    slack = 0.1 if axes == 1 else 0.03  # there are but 1000 cells on a line
    assert abs(values.mean()) < slack
    assert values.var() == pytest.approx(1 / 3, rel=2 * slack)
    assert np.abs(values).max() < 1.2
    step = np.float32(1e-3) * rng.choice((-1, 1), at.shape).astype(np.float32)
    assert np.abs(rough_noise(at + step, 9) - values).max() < 0.03 * axes
    near = rough_noise(at + np.float32(1.5), 9)
    assert abs(np.corrcoef(values, near)[0, 1]) < 2 * slack


def test_rough_noise_is_that_of_its_cell_in_the_middle():
    cells = np.array([[3, -7, 12], [0, 5, -2]], np.float32)
    middle = rough_noise(cells + np.float32(0.2), 1)
    assert middle == pytest.approx(noise_of_cells(cells, 1) / (1 - 0.25 / 3), rel=1e-6)


def test_sums_are_products_of_matrices():
    rng = np.random.default_rng(1)
    matrix, points = rng.normal(size=(4, 3)), rng.normal(size=(3, 50))
    assert np.allclose(turned(matrix, points), matrix @ points, rtol=0, atol=1e-14)
    assert np.allclose(turned(matrix, points[:, 0]), matrix @ points[:, 0], rtol=0, atol=1e-14)
    assert np.allclose(dotted(matrix[0], points), matrix[0] @ points, rtol=0, atol=1e-14)
    assert np.allclose(lengths(points), np.linalg.norm(points, axis=0), rtol=1e-14)
    assert turned(matrix.astype(np.float32), points.astype(np.float32)).dtype == np.float32
