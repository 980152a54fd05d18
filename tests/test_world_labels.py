"""Labels agree with the frame they describe."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wildsight.world.labels import box3d, label, saliency
from wildsight.world.render import render
from wildsight.world.scene import Camera, Scene, Thing, random_scene
from wildsight.world.shapes3d import SOLIDS


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_masks_share_the_picture_and_boxes_hold_them(seed):
    scene = random_scene(seed, count=None)
    frame = render(scene, 48)
    labels = label(scene, frame)
    assert np.array_equal(sum(item.mask.astype(int) for item in labels), frame.instance >= 0)
    chosen = saliency(scene, frame)
    assert any(np.array_equal(chosen, item.mask) for item in labels)
    for item in labels:
        left, top, right, bottom = item.box.astype(int)
        assert item.mask[top:bottom, left:right].sum() == item.mask.sum()
        assert item.mask[top].any() and item.mask[bottom - 1].any()
        assert 0 <= item.occluded <= 1
        pixels = item.box3d.project(scene.camera.intrinsics(48))
        assert (pixels.min(0) <= item.box[:2] + 0.5).all()
        assert (pixels.max(0) >= item.box[2:] - 0.5).all()


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from(tuple(SOLIDS)),
    yaw=st.floats(-3.1, 3.1),
    x=st.floats(-1, 1),
    pitch=st.floats(0, 0.8),
)
def test_a_box_s_corners_are_the_thing_s(shape, yaw, x, pitch):
    thing, camera = Thing(shape, "red", "wet", "large", x, 4.0, yaw), Camera(pitch=pitch)
    box, turns = box3d(thing, camera), SOLIDS[shape].symmetry
    assert abs(box.yaw) <= np.pi / max(turns, 1) + 1e-9
    seen, mine = camera.see(thing.corners), box.corners()
    assert np.allclose(seen.mean(0), mine.mean(0))
    if turns:
        assert np.allclose(_sorted(seen), _sorted(mine), atol=1e-6)


def _sorted(points):
    rounded = np.round(points, 5) + 0.0
    return points[np.lexsort(rounded.T)]


def test_a_thing_right_behind_another_is_hidden():
    front = Thing("cube", "red", "matte", "large", 0.0, 2.5, 0.0)
    behind = Thing("sphere", "blue", "matte", "small", 0.0, 3.6, 0.0)
    scene = Scene((front, behind), Camera(height=0.5, pitch=0.1))
    first, second = label(scene, render(scene, 64))
    assert first.occluded == 0
    assert second.occluded > 0.9
