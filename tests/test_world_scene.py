"""The renderer's geometry, against the pinhole equations and a slow search along the ray."""

import numpy as np
import pytest

from wildsight.errors import ConfigError
from wildsight.world.render import render
from wildsight.world.scene import PROPORTIONS, SHAPES, Camera, Scene, Thing, random_scene

SIGNS = np.stack(np.meshgrid((-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5)), -1).reshape(-1, 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("focal", [0.7, 1.1, 2.0])
def test_projected_box_bounds_the_mask(shape, focal):
    for yaw in (0.0, 0.6, 2.1):
        camera = Camera(focal=focal)
        thing = Thing(shape, "red", "small", 0.1, 3.3, yaw)
        ys, xs = np.nonzero(render(Scene((thing,), camera, 1.0, 0), 96).instance == 0)
        corners = camera.project(SIGNS * thing.extent @ thing.turn.T + thing.centre, 96)
        assert len(xs) > 20
        assert (corners.min(0) <= (xs.min() + 0.5, ys.min() + 0.5)).all()
        assert (corners.max(0) >= (xs.max() + 0.5, ys.max() + 0.5)).all()
        if shape in ("cube", "slab", "post"):  # the corners belong to the object: the bound is tight
            low, high = (xs.min(), ys.min()), (xs.max() + 1, ys.max() + 1)
            assert np.abs(corners.min(0) - low).max() <= 1.6
            assert np.abs(corners.max(0) - high).max() <= 1.6


def test_depth_is_ray_length_times_cosine():
    frame, focal = render(random_scene(3), 48), Camera().focal
    line = ((np.arange(48) + 0.5) / 48 - 0.5) / focal
    cosine = 1 / np.sqrt(1 + line[None] ** 2 + line[:, None] ** 2)
    solid = np.isfinite(frame.depth)
    assert np.allclose(frame.depth[solid], (frame.distance * cosine)[solid])


def test_surface_points_lie_in_their_thing_s_box():
    for seed in range(6):
        scene = random_scene(seed, count=5)
        frame, camera = render(scene, 64), scene.camera
        ys, xs = np.nonzero(frame.instance >= 0)
        pixels = np.stack((xs + 0.5, ys + 0.5, np.ones(len(xs))), 1)
        seen = pixels @ np.linalg.inv(camera.intrinsics(64)).T * frame.depth[ys, xs, None]
        world = seen @ camera.turn + (0, 0, camera.height)
        for index, thing in enumerate(scene.things):
            own = (world[frame.instance[ys, xs] == index] - thing.centre) @ thing.turn
            assert (np.abs(own) <= thing.extent / 2 + 1e-6).all()


def test_same_seed_same_frame():
    first, again = render(random_scene(8), 32), render(random_scene(8), 32)
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.instance, again.instance)


def test_impossible_settings_give_the_range():
    for broken in (
        lambda: Camera(focal=-1),
        lambda: random_scene(0, count=9),
        lambda: render(random_scene(0), 2),
    ):
        with pytest.raises(ConfigError, match=r"give .* to "):
            broken()
    assert set(PROPORTIONS) == set(SHAPES)
