"""Sensors read what the scene says, within their noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildsight.errors import ConfigError
from wildsight.world.render import render
from wildsight.world.scene import MATERIALS, random_scene
from wildsight.world.sensors import REACH, SENSORS, depth_metres, events, lidar, sense, temperatures

scenes = st.builds(random_scene, st.integers(0, 10**6), count=st.integers(1, 5))


@settings(max_examples=12, deadline=None)
@given(scene=scenes)
def test_readings_agree_with_the_frame(scene):
    frame, rng = render(scene, 32), np.random.default_rng(0)
    solid = np.isfinite(frame.depth)
    depth = depth_metres(frame, rng)
    assert (depth[~solid] == 0).all()
    assert (np.abs(depth - frame.depth)[solid] <= 0.03 * frame.depth[solid] ** 2).all()
    ranges = lidar(frame, rng)
    hit = ranges > 0
    assert 0.1 < hit.mean() < 0.5
    assert (np.abs(ranges - frame.distance)[hit] < 0.15).all()
    heat = temperatures(scene, frame, rng, noise=0.0)
    for index, thing in enumerate(scene.things):
        assert np.allclose(heat[frame.instance == index], MATERIALS[thing.material])


@settings(max_examples=8, deadline=None)
@given(scene=scenes)
def test_events_are_signed_changes_and_need_one(scene):
    frame = render(scene, 32)
    seen = events(scene, frame, np.random.default_rng(0), noise=0.0)
    assert set(np.unique(seen)) <= {0.0, 1.0}
    assert seen.any()
    assert not (seen[..., 0] * seen[..., 1]).any()


def test_failures_spoil_what_they_should():
    scene = random_scene(5, count=5)
    clear = sense(scene, 48).inputs
    night, fog, glare = (sense(scene, 48, failure=f).inputs for f in ("night", "fog", "overexposure"))
    assert night["rgb"].mean() < 0.4 * clear["rgb"].mean()
    assert fog["rgb"].std() < 0.6 * clear["rgb"].std()
    assert (glare["rgb"] == 1).mean() > 0.4
    assert (fog["lidar"] * REACH > 2).sum() < 0.8 * (clear["lidar"] * REACH > 2).sum()
    for failed in (night, fog, glare):
        assert np.array_equal(failed["thermal"], clear["thermal"])
        assert all(v.dtype == np.float32 and v.min() >= 0 and v.max() <= 1 for v in failed.values())
    assert np.array_equal(sense(scene, 48).inputs["event"], clear["event"])
    assert not np.array_equal(sense(scene, 48, seed=1).inputs["rgb"], clear["rgb"])


def test_unknown_sensors_name_the_choice():
    for options in (
        {"names": ("radar",)},
        {"names": ()},
        {"names": ("rgb", "rgb")},
        {"failure": "dead:radar"},
    ):
        with pytest.raises(ConfigError, match="choose from"):
            sense(random_scene(0), 32, **options)
    assert tuple(SENSORS) == ("rgb", "depth", "thermal", "event", "lidar")
