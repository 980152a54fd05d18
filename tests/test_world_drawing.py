"""Sketches: lines where the solid has them, drawn by hand, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildsight.errors import ConfigError
from wildsight.world.drawing import Hand, sketch, visible_lines
from wildsight.world.outlines3d import lines_of
from wildsight.world.portraits import portrait
from wildsight.world.render import render
from wildsight.world.shapes3d import SOLIDS

STEADY = Hand(wobble=0, overshoot=0, gap=0, leave_out=0, again=0, slant=0)


def grown(mask, steps):
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = (
            padded[1:-1, 1:-1] | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
        )
    return mask


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**5), shape=st.sampled_from(tuple(SOLIDS)))
def test_lines_lie_on_the_thing_and_hold_its_outline(seed, shape):
    scene = portrait(seed, shape=shape)
    mask = render(scene, 128, smooth=False).instance == 0
    points = np.vstack(visible_lines(scene)) * 128
    inside = points[((points >= 0) & (points < 128)).all(1)].astype(int)
    drawn = np.zeros_like(mask)
    drawn[inside[:, 1], inside[:, 0]] = True
    assert not (drawn & ~grown(mask, 2)).any()
    rows, columns = np.nonzero(mask)
    margin = 128 * np.array([points[:, 0].min(), points[:, 1].min()]) / 128
    if rows.min() > 1 and columns.min() > 1:
        assert np.abs(margin - (columns.min(), rows.min())).max() < 3


def test_a_cube_has_nine_visible_edges_of_twelve_and_a_ball_one_circle():
    scene = portrait(3, shape="cube", pitch=(0.5, 0.5))
    assert len(lines_of("cube", np.array((2.0, 3.0, 2.0)))) == 12
    assert 7 <= len(visible_lines(scene)) <= 9
    ring = lines_of("sphere", np.array((0.0, -3.0, 0.0)))
    assert len(ring) == 1
    assert np.allclose(np.linalg.norm(ring[0], axis=1), 0.5)
    assert np.allclose(ring[0][:, 1], -0.25 / 3)  # the polar plane of the eye


def test_a_hand_is_unsteady_and_repeats_itself_for_the_same_seed():
    scene = portrait(1, shape="chair")
    first, again, other = sketch(scene, 64), sketch(scene, 64), sketch(scene, 64, seed=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    steady = sketch(scene, 64, hand=STEADY)
    assert (np.abs(first.astype(int) - steady) > 100).any()
    assert steady.shape == (64, 64, 3)
    with pytest.raises(ConfigError, match="give 0 to 1"):
        Hand(gap=2)
