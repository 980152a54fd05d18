"""Tiles cover a picture, and a blend of true crops is the picture."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wildsight.anomaly.tiling import OVERLAP, blend, corners, cut, raised_cosine, starts
from wildsight.errors import ConfigError


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.integers(32, 200))
def test_tiles_cover_the_side_and_overlap(length: int, tile: int) -> None:
    begin = starts(length, tile)
    assert begin[0] == 0 and (length <= tile or begin[-1] == length - tile)
    for a, b in itertools.pairwise(begin):
        assert 0 < b - a <= tile * (1 - OVERLAP) + 1


def test_a_blend_of_crops_is_the_whole() -> None:
    whole = np.random.default_rng(0).random((150, 230)).astype(np.float32)
    places = corners((230, 150), 64)
    maps = np.stack([whole[y : y + 64, x : x + 64] for x, y in places])
    assert np.allclose(blend(maps, places, 64, (230, 150)), whole, atol=1e-6)


def test_a_blend_at_half_scale_and_of_a_narrow_picture() -> None:
    places = corners((100, 40), 64)
    constant = blend(np.full((len(places), 32, 32), 2.5, np.float32), places, 64, (100, 40))
    assert constant.shape == (20, 50) and np.allclose(constant, 2.5)
    assert {piece.size for piece in cut(Image.new("RGB", (100, 40)), places, 64)} == {(64, 40)}


def test_weights_and_limits() -> None:
    window = raised_cosine(5, 8)
    assert window.min() > 0 and window.argmax() in (2 * 8 + 3, 2 * 8 + 4)
    with pytest.raises(ConfigError, match="32"):
        corners((100, 100), 8)
