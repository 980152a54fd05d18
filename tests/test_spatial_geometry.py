"""Projection, rotations, virtual depth and exact IoU: goldens, slow references, invariants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spatial_clipping import slow_iou
from spatial_reference import rotation_6d, rows_of, yaw_rotation
from wildsight.errors import ConfigError
from wildsight.spatial import geometry as g
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera, zoomed
from wildsight.spatial.inputs import mirrored_box
from wildsight.spatial.iou3d import box_of_corners, iou_3d, iou_3d_matrix, nearest_rotation
from wildsight.spatial.metrics import iou_of, released_iou


def golden(shared: Path, name: str) -> Any:
    return json.loads((shared / "golden" / name).read_text())


def pairs(n: int, seed: int = 0, *, level: bool = False) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    centre, size = rng.normal(size=(2, n, 3)) * 0.5, rng.uniform(0.5, 3, (2, n, 3))
    turns = Rotation.from_rotvec(rng.uniform(-3, 3, (2 * n, 1)) * (0, 1, 0)) if level else (
        Rotation.random(2 * n, random_state=seed)
    )  # fmt: skip
    rotation = turns.as_matrix().reshape(2, n, 3, 3)
    return centre[0], size[0], rotation[0], centre[1], size[1], rotation[1]


def test_iou_golden(shared: Path) -> None:
    table = golden(shared, "iou3d.json")
    for case in table["cases"]:
        a, b = (Box.from_omni3d(case[k]["center"], case[k]["dims"], case[k]["R"], k) for k in ("a", "b"))
        rows = [np.stack([v]) for box in (a, b) for v in (box.centre, box.size, box.rotation)]
        assert iou_3d(*rows)[0] == pytest.approx(case["iou3d"], abs=1e-6), case["name"]
        assert np.allclose(a.corners(), case["corners_a"], atol=1e-9)
        if case["yaw_only"]:
            assert released_iou([a], [b])[0] == pytest.approx(case["mono3dvg_released_iou"], abs=1e-9)
    for case in table["corner_cases"]:
        rows = [v for k in ("corners_a", "corners_b") for v in box_of_corners(np.array([case[k]]))]
        assert iou_3d(*rows)[0] == pytest.approx(case["iou3d"], abs=1e-5), case["name"]


@pytest.mark.parametrize("level", [True, False])
def test_iou_against_clipping_one_pair_at_a_time(level: bool) -> None:
    rows = pairs(60, level=level)
    slow = [slow_iou(*(v[i] for v in rows)) for i in range(60)]
    assert np.allclose(iou_3d(*rows), slow, atol=1e-12)


@pytest.mark.parametrize("level", [True, False])
def test_iou_of_rotations_written_with_few_digits(level: bool) -> None:
    """Of float32, or rounded in a file, a rotation is orthonormal to its own digits alone."""
    centre, size, turn, *_ = pairs(300, 4, level=level)
    for rounded, far in ((turn.astype(np.float32), 1e-6), (turn.round(4), 2e-3)):
        itself = iou_3d(centre, size, rounded, centre, size, rounded)
        assert itself.min() > 1 - 1e-12
        assert iou_3d(centre, size, rounded, centre, size, turn).min() > 1 - far
    assert np.array_equal(nearest_rotation(turn), turn)
    assert np.isfinite(iou_3d(centre, size, np.full_like(turn, np.nan), centre, size, turn)).all()


def test_iou_where_faces_coincide() -> None:
    """By hand, by clipping and at once: the same box, one moved along an axis, one half as long."""
    centre, size, turn, *_ = pairs(60, 5)
    step, half = turn[..., 0] * size[:, :1] / 2, size * (0.5, 1.0, 1.0)
    cases = (centre, size, 1.0), (centre + step, size, 1 / 3), (centre + step / 2, half, 0.5)
    for middle, other, wanted in cases:
        rows = centre, size, turn, middle, other, turn
        slow = [slow_iou(*(v[i] for v in rows)) for i in range(60)]
        assert np.allclose(slow, wanted, atol=1e-8)
        assert np.allclose(iou_3d(*rows), wanted, atol=1e-8)


def test_iou_invariants() -> None:
    rows = pairs(200)
    whole = iou_3d(*rows)
    assert np.array_equal(whole, iou_3d(*rows[3:], *rows[:3]))
    turn, step = Rotation.random(random_state=5).as_matrix(), np.array((3.0, -1.0, 40.0))
    moved = [m for i in (0, 3) for m in (rows[i] @ turn.T + step, rows[i + 1], turn @ rows[i + 2])]
    assert np.allclose(iou_3d(*moved), whole, atol=1e-9)
    scaled = [v * 7 if i % 3 < 2 else v for i, v in enumerate(rows)]
    assert np.allclose(iou_3d(*scaled), whole, atol=1e-12)
    volumes = rows[1].prod(1), rows[4].prod(1)
    assert (whole <= np.minimum(*volumes) / np.maximum(*volumes) + 1e-12).all()
    assert np.allclose(np.diag(iou_3d_matrix(*(v[:5] for v in rows))), whole[:5])


def test_iou_falls_with_distance_and_level_pairs_agree_with_turned_ones() -> None:
    rows = pairs(100, 3, level=True)
    turn = Rotation.random(random_state=1).as_matrix()
    turned = [m for i in (0, 3) for m in (rows[i] @ turn.T, rows[i + 1], turn @ rows[i + 2])]
    assert np.allclose(iou_3d(*rows), iou_3d(*turned), atol=1e-10)
    steps = np.linspace(0, 3, 30)[:, None] * (1.0, 0.3, 0.2)
    one, r = np.ones((30, 3)), np.repeat(turn[None], 30, 0)
    falling = iou_3d(np.zeros((30, 3)), one, r, steps, one, r)
    assert falling[0] == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(falling) <= 1e-12).all()


def test_iou_of_degenerate_and_wrong_boxes() -> None:
    rows = [v.copy() for v in pairs(3)]
    rows[1][0] = (0.0, 1.0, 1.0)
    rows[4][1] = (-1.0, 1.0, 1.0)
    values = iou_3d(*rows)
    assert values[0] == values[1] == 0.0
    assert np.isfinite(values).all()
    assert iou_3d(*(v[:0] for v in rows)).shape == (0,)
    with pytest.raises(ConfigError, match="pair them"):
        iou_3d(*rows[:5], rows[5][:2])
    with pytest.raises(ConfigError, match="no box"):
        box_of_corners(np.random.default_rng(0).normal(size=(1, 8, 3)))


def test_camera_golden(shared: Path) -> None:
    table = golden(shared, "camera.json")
    for case in table["virtual_depth"]:
        z, f = (torch.tensor(case[k], dtype=torch.float64) for k in ("z", "f_net"))
        virtual = g.virtual_depth(z, f, case["f_virtual"])
        assert float(virtual) == pytest.approx(case["z_virtual"], abs=1e-9)
        assert float(g.real_depth(virtual, f, case["f_virtual"])) == pytest.approx(case["z_back"], abs=1e-9)
    for case in table["projection"]:
        row = rows_of(torch.tensor(case["K"], dtype=torch.float64))
        x = torch.tensor(case["X"], dtype=torch.float64)
        uv = g.project(x, row)
        assert np.allclose(uv, case["uv"], atol=1e-9)
        assert np.allclose(g.unproject(uv, x[2], row), case["unprojected"], atol=1e-9)
    k = torch.tensor((721.5377, 721.5377, 609.5593, 172.854), dtype=torch.float64)
    for case in table["allocentric"]:
        direction = g.rays(torch.tensor((case["u"], case["v"]), dtype=torch.float64), k)
        ego = torch.tensor(case["R_ego"], dtype=torch.float64)
        assert np.allclose(g.view_rotation(direction), case["M_view"], atol=1e-9)
        allo = g.to_allocentric(ego, direction)
        assert np.allclose(allo, case["R_allo"], atol=1e-9)
        assert np.allclose(g.to_egocentric(allo, direction), ego, atol=1e-9)
    for case in table["focal_rescale_invariance"]:
        virtual = case["z"] * 512 / case["fy"]
        assert virtual == pytest.approx(case["z_virtual"])
        assert virtual * case["pixel_height_of_1p5m"] == pytest.approx(1.5 * 512)


def test_rotations_round_trip() -> None:
    rotation = torch.tensor(Rotation.random(20, random_state=0).as_matrix())
    assert torch.allclose(g.rotation_from_6d(rotation_6d(rotation)), rotation)
    assert torch.isfinite(g.rotation_from_6d(torch.zeros(2, 6))).all()
    for yaw in np.linspace(-3, 3, 13):
        box = Box.upright((0, 0, 5), (1, 1, 1), yaw)
        assert box.yaw == pytest.approx(yaw)
        assert np.allclose(box.rotation, yaw_rotation(torch.tensor(yaw)))


def test_gradients_pass_through_projection() -> None:
    camera = torch.tensor((100.0, 120.0, 48.0, 40.0), dtype=torch.float64)
    points = torch.tensor(((1.0, 0.5, 4.0), (-1.0, 0.2, 6.0)), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: g.project(p, camera), (points,))
    six = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    size = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    centre = torch.zeros(3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, r: g.corners(centre, s, g.rotation_from_6d(r)), (size, six))


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.3])
def test_zoom_moves_pixels_as_the_camera_says(scale: float) -> None:
    from wildsight.images import from_array

    camera = Camera(90.0, 95.0, 47.0, 50.0, 96, 96)
    box = Box.upright((0.4, 0.3, 6.0), (1, 1, 1), 0.4)
    _, near = zoomed(from_array(np.zeros((96, 96, 3), np.uint8)), camera, scale)
    drawn = box.project(camera.matrix)
    width = round(96 / scale)
    left = (96 - width) // 2
    assert np.allclose(box.project(near.matrix), (drawn - left) * 96 / width)


def test_a_mirrored_box_twice_is_itself_and_mirrors_in_the_picture() -> None:
    camera = Camera(90.0, 90.0, 40.0, 48.0, 96, 96)
    box = Box(
        np.array((0.4, 0.3, 6.0)), np.array((1.0, 2.0, 3.0)), Rotation.random(random_state=2).as_matrix()
    )
    flipped = mirrored_box(box)
    assert np.linalg.det(flipped.rotation) == pytest.approx(1.0)
    again = mirrored_box(flipped)
    assert np.allclose(again.centre, box.centre)
    assert np.allclose(again.rotation, box.rotation)
    seen = flipped.project(camera.flipped().matrix)
    seen[:, 0] = 96 - seen[:, 0]
    assert np.allclose(np.sort(seen, 0), np.sort(box.project(camera.matrix), 0))
    centre, rotation = g.mirrored(torch.tensor(box.centre), torch.tensor(box.rotation))
    assert np.allclose(centre, flipped.centre)
    assert np.allclose(rotation, flipped.rotation)


@pytest.mark.parametrize(
    ("centre", "dimensions", "yaw", "proj"),
    [
        ((0, 0, 4), (2, 2, 2), 0.0, (50 / 3, 50 / 3, 250 / 3, 250 / 3)),
        ((1, 0.5, 6), (2, 1, 4), np.pi / 2, (50, 50, 100, 75)),
        ((0, 0, 5), (2**0.5, 2, 2**0.5), np.pi / 4, (30, 25, 70, 75)),
    ],
)
def test_projected_corners_give_omni3d_boxes(centre: Any, dimensions: Any, yaw: float, proj: Any) -> None:
    """By hand, f = 100 and the axis at (50, 50): the near edges bound the projection."""
    rotation = yaw_rotation(torch.tensor(yaw, dtype=torch.float64)).numpy()
    box = Box.from_omni3d(centre, dimensions, rotation)
    pixels = box.project(Camera(100, 100, 50, 50, 100, 100).matrix)
    assert np.allclose((*pixels.min(0), *pixels.max(0)), proj)


def test_mirrored_pairs_share_as_much() -> None:
    rows = pairs(50, 7)
    boxes = [[Box(*(v[i] for v in rows[k : k + 3])) for i in range(50)] for k in (0, 3)]
    mirrored = [[mirrored_box(b) for b in side] for side in boxes]
    assert np.allclose(iou_of(*mirrored), iou_of(*boxes), atol=1e-12)
