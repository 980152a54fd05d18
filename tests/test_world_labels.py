"""Labels agree with the frame they describe."""

import numpy as np

from wildsight.world.labels import label
from wildsight.world.render import render
from wildsight.world.scene import Camera, Scene, Thing, random_scene


def test_masks_share_the_picture_and_centres_project_into_their_box():
    for seed in range(5):
        scene = random_scene(seed, count=4)
        frame = render(scene, 48)
        labels = label(scene, frame)
        assert np.array_equal(sum(item.mask.astype(int) for item in labels), frame.instance >= 0)
        for item in labels:
            seen = scene.camera.intrinsics(48) @ item.centre
            assert np.allclose(seen[:2] / seen[2], scene.camera.project(item.thing.centre[None], 48)[0])
            assert 0 <= item.occluded <= 1


def test_a_thing_right_behind_another_is_hidden():
    front = Thing("cube", "red", "large", 0.0, 2.5, 0.0)
    behind = Thing("sphere", "blue", "small", 0.0, 3.3, 0.0)
    scene = Scene((front, behind), Camera(height=0.5, pitch=0.1), 0.0, 0)
    first, second = label(scene, render(scene, 64))
    assert first.occluded == 0
    assert second.occluded > 0.9
