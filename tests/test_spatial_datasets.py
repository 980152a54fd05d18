"""Readers, calibration, captions, checks: the world, plain folders, KITTI, Mono3DRefer, Omni3D."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spatial_models import kitti_folder
from wildsight.datasets.omni3d import TRAINING, IgnoreRule
from wildsight.errors import ConfigError, DataError
from wildsight.spatial.answers import opened
from wildsight.spatial.ap3d import Scene, ap_3d
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera, camera_for, fitted, focal_of_exif, read_calibration
from wildsight.spatial.captions import expressions, in_words, leaks, masked, mirrored_text
from wildsight.spatial.data import check_source, read, read_source, world
from wildsight.spatial.drawing import from_above, on_picture, segments
from wildsight.spatial.layouts import kitti_labels
from wildsight.spatial.samples import SpatialData
from wildsight.spatial.scoring import grouped

P2 = "P2: 90 0 48 0 0 90 48 0 0 0 1 0\n"
BOX = {"name": "cube", "centre": [0.5, 0.8, 5.0], "size": [1.0, 1.0, 1.0], "yaw": 0.3}


def folder(root: Path, rows: list[dict[str, Any]], *, calibration: str = P2) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "calib").mkdir()
    for name in dict.fromkeys(r["image"] for r in rows):
        Image.fromarray(np.full((96, 96, 3), 90, np.uint8)).save(root / "images" / name)
        (root / "calib" / f"{Path(name).stem}.txt").write_text(calibration)
    (root / "labels.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return root


def rows(**change: Any) -> list[dict[str, Any]]:
    first = {"image": "a.png", "expression": "the cube", "split": "train", **BOX, **change}
    return [first, {"image": "b.png", "expression": "the cube", "split": "test", **BOX}]


def test_world_reads_its_own_export(tmp_path: Path) -> None:
    from wildsight.world.export import export

    export("grounding", tmp_path / "w", count=12, size=48)
    data = read_source(tmp_path / "w")
    assert len({s.key for s in data.samples}) == 12
    made = world(2, 2, 48, 0, (1.0,))
    assert made.protocol["questions"]["train"] >= 2
    for sample in data.samples:
        assert sample.camera.origin == "calibration"
        assert sample.picture().size == (48, 48)
        assert len(sample.targets) == 1
    assert not [p for p in check_source(tmp_path / "w") if "no question" not in p.what]


def test_world_is_fixed_by_its_seed_and_grouped_by_focal_length() -> None:
    one, two = world(6, 4, 48, 1, (0.6, 2.5)), world.__wrapped__(6, 4, 48, 1, (0.6, 2.5))
    assert one.protocol == two.protocol
    assert {s.group for s in one.part("test")} == {"x0.6", "x2.5"}
    train = [s.camera.fx / 48 for s in one.part("train")]
    assert min(train) >= 1.0
    assert max(train) <= 1.2
    far = [s.camera.fx / 48 for s in one.part("test") if s.group == "x2.5"]
    assert min(far) >= 2.5 - 1e-9
    for sample in one.samples:
        if not sample.targets:
            assert not {b.name for b in sample.others} & set(sample.expression.split())


def test_folder_with_several_boxes_a_refusal_and_a_spare(tmp_path: Path) -> None:
    many = [
        {"image": "a.png", "expression": "cubes", **BOX},
        {"image": "a.png", "expression": "cubes", **{**BOX, "centre": [-1, 0.8, 6]}},
        {"image": "a.png", "expression": None, **{**BOX, "name": "tree", "centre": [0, 0.8, 9]}},
        {"image": "a.png", "expression": "the barrel", "absent": True},
    ]
    data = read_source(folder(tmp_path / "f", many))
    cubes, barrel = data.samples
    assert [len(cubes.targets), len(cubes.others), len(barrel.targets), len(barrel.others)] == [2, 1, 0, 3]
    assert in_words(cubes.targets, cubes.camera) == "yes : two objects"
    assert in_words((), cubes.camera) == "no"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre": [0, 0, -3]}, "behind the camera"),
        ({"size": [1, 0, 1]}, "size"),
        ({"yaw": None}, "incomplete"),
        ({"centre": [0, 0]}, "three numbers"),
        ({"centre": [0, float("nan"), 3]}, "finite"),
        ({"expression": "  "}, "without words"),
        ({"expression": "the ?"}, "names no object"),
        ({"split": "maybe"}, "split"),
        ({"image": "../b.png"}, "no such picture"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = folder(tmp_path / "f", rows())
    bad = {**rows()[0], **change}
    (root / "labels.jsonl").write_text(json.dumps(bad) + "\n" + json.dumps(rows()[1]))
    with pytest.raises(DataError, match=message):
        read_source(root)
    assert any(message in p.what or "number" in p.what for p in check_source(root))


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ("P2: 90 0 48\n", "3 numbers"),
        ("P2: 0 0 48 0 0 90 48 0 0 0 1 0\n", "focal length"),
        ("P2: a b\n", "not numbers"),
        ("nothing\n", "no line"),
        (P2 + "size: 640 480\n", "640x480"),
    ],
)
def test_bad_calibrations_are_named(tmp_path: Path, calibration: str, message: str) -> None:
    root = folder(tmp_path / "f", rows(), calibration=calibration)
    with pytest.raises(DataError, match=message):
        read_source(root)
    assert any(message in p.what for p in check_source(root))


def test_check_finds_what_lies_between_the_lines(tmp_path: Path) -> None:
    root = folder(tmp_path / "f", [*rows(), {**rows(centre=[90, 0, 5])[0], "expression": "the far cube"}])
    (root / "calib" / "b.txt").write_text("P2: 900 0 480 0 0 900 480 0 0 0 1 0\n")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "images" / "spare.png")
    (root / "images" / "b.png").write_bytes((root / "images" / "b.png").read_bytes()[:60])
    found = {p.what.split(" (")[0] for p in check_source(root)}
    assert any("out of sight" in f for f in found)
    assert any("no label names it" in f for f in found)
    assert any("truncated" in f or "damaged" in f for f in found)


def test_check_reads_on_after_a_fault(tmp_path: Path) -> None:
    root = folder(tmp_path / "f", rows())
    bad = [{**rows()[0], "size": [1, 0, 1]}, {**rows()[0], "yaw": None}, {**rows()[0], "split": "maybe"}]
    lines = [*map(json.dumps, [*bad, *rows()]), "{"]
    (root / "labels.jsonl").write_text("\n".join(lines))
    (root / "calib" / "b.txt").write_text("P2: a b\n")
    told = [p.what for p in check_source(root)]
    for words in ("size", "incomplete", "split 'maybe'", "line 6 is not JSON", "not numbers"):
        assert any(words in t for t in told), (words, told)


def test_check_of_kitti_names_every_frame(tmp_path: Path) -> None:
    root = kitti_folder(tmp_path) / "training"
    (root / "label_2" / "000001.txt").write_text("Car 0 0\n" + "Car 0 0 0 1 1 9 9 1.5 x 4 1 1.7 12 0.3\n")
    (root / "calib" / "000003.txt").write_text("P2: 1 2\n")
    (root / "label_2" / "000004.txt").unlink()
    found = check_source(f"kitti:{tmp_path}")
    for words, name in (("columns", "000001"), ("not numbers", "000001"), ("2 numbers", "000003"),
                        ("cannot be read", "000004")):  # fmt: skip
        assert any(words in p.what and name in str(p.file) for p in found), (words, found)


def test_kitti_frames_in_neither_list_are_left_out(tmp_path: Path) -> None:
    root = kitti_folder(tmp_path)
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "train.txt").write_text("000000\n000001\n")
    (root / "ImageSets" / "val.txt").write_text("000002\n")
    data = read("kitti", root)
    assert {Path(s.key).stem: s.split for s in data.samples} == {
        "000000": "train", "000001": "train", "000002": "test"
    }  # fmt: skip
    assert data.protocol["in_neither_list"] == 3


def test_intrinsics_from_argument_exif_or_estimate() -> None:
    size = (400, 300)
    assert camera_for(size, focal=500).origin == "given"
    assert camera_for(size, intrinsics=np.diag((5.0, 6.0, 1.0))).fy == 6.0
    assert camera_for(size, exif={0xA405: 50}).fx == pytest.approx(50 * 500 / 43.2666, rel=1e-4)
    assert camera_for(size, exif={0xA405: 50}).origin == "exif"
    assert camera_for(size, exif={0xA405: 0}).origin == "estimate"
    assert focal_of_exif({0x920A: 5.0, 0xA20E: 2540.0, 0xA210: 2}, 400, 300) == pytest.approx(500.0)
    with pytest.raises(DataError, match="no intrinsics"):
        camera_for(size, estimate=False)
    for focal in (0.0, -3.0, float("nan")):
        with pytest.raises(ConfigError, match="focal length"):
            camera_for(size, focal=focal)
    with pytest.raises(ConfigError, match="both"):
        camera_for(size, focal=3, intrinsics=np.eye(3))
    with pytest.raises(ConfigError, match="matrix"):
        camera_for(size, intrinsics=np.ones((3, 3)))


@pytest.mark.parametrize(
    "matrix",
    [
        [[90, 0, 0], [0, 90, 0], [48, 48, 1]],
        [[45, 0, 24], [0, 45, 24], [0, 0, 0.5]],
        [[90, 0, 48], [0, 90, 48], [0, 0, 0]],
        [[90, 0, 48], [50, 90, 48], [0, 0, 1]],
        "K",
        [1, [2, 3]],
    ],
)
def test_a_matrix_that_is_turned_or_scaled_is_refused(matrix: Any) -> None:
    with pytest.raises(ConfigError, match="no \\[3, 3\\] matrix"):
        camera_for((96, 96), intrinsics=matrix)


def test_exif_of_a_picture_that_was_resized_since() -> None:
    """4000 pixels over a plane of 20 mm and a lens of 25 mm: f is 5000 pixels, and 500 of a tenth."""
    tags = {0x920A: 25.0, 0xA20E: 5080.0, 0xA210: 2, 0xA002: 4000, 0xA003: 3000}
    assert focal_of_exif(tags, 4000, 3000) == pytest.approx(5000.0)
    assert focal_of_exif(tags, 400, 300) == pytest.approx(500.0)
    assert focal_of_exif(tags, 300, 400) == pytest.approx(500.0)
    without = {k: v for k, v in tags.items() if k != 0xA210}
    assert focal_of_exif(without, 4000, 3000) == pytest.approx(5000.0)


def test_a_turned_picture_stands_upright() -> None:
    picture = Image.new("RGB", (60, 40))
    picture.getexif()[0x0112] = 6
    assert opened(picture)[0].size == (40, 60)


def test_exif_of_a_file(tmp_path: Path) -> None:
    from wildsight.images import exif_of

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert exif_of(tmp_path / "a.jpg")[0xA405] == 35


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_the_camera_follows_the_picture(fit: Any) -> None:
    camera = Camera(300.0, 310.0, 190.0, 140.0, 400, 300)
    box = Box.upright((0.5, 0.3, 5.0), (1, 1, 1), 0.2)
    square, small = fitted(Image.new("RGB", (400, 300)), camera, 96, fit)
    assert square.size == (96, 96)
    scale = (96 / 400, 72 / 300) if fit == "letterbox" else (96 / 400, 96 / 300)
    assert np.allclose(box.project(small.matrix), box.project(camera.matrix) * scale)
    with pytest.raises(DataError, match="calibration is for"):
        fitted(Image.new("RGB", (300, 400)), camera, 96, fit)


def test_captions_fit_one_box_only() -> None:
    camera = Camera(100.0, 100.0, 50.0, 50.0, 100, 100)
    boxes = [
        Box.upright((x, 1, z), (1, 1, 1), 0, n)
        for x, z, n in ((-2, 5, "car"), (2, 9, "car"), (0, 20, "tree"))
    ]
    found = expressions(boxes, camera)
    texts = [t for _, _, t in found]
    assert len(set(texts)) == len(texts)
    assert (2, "name", "the tree") in found
    assert (0, "depth", "the nearest car") in found
    assert (1, "side", "the car on the right") in found
    assert not any(leaks(t) for t in texts)
    assert masked("a car 3.5 m away") == "a car some away"
    assert mirrored_text(mirrored_text(" ".join(texts))) == " ".join(texts)


def test_kitti(tmp_path: Path) -> None:
    data = read("kitti", kitti_folder(tmp_path))
    box = data.samples[0].targets[0]
    assert np.allclose(box.centre, (1.0 + 9 / 150, 1.7 - 0.75, 12.0))
    assert np.allclose(box.size, (4.0, 1.5, 1.8))
    assert box.yaw == pytest.approx(0.3)
    assert {s.expression for s in data.samples} == {"the car"}
    (tmp_path / "training" / "label_2" / "000000.txt").write_text("Car 0 0\n")
    with pytest.raises(DataError, match="columns"):
        read("kitti", tmp_path)


def test_mono3drefer(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "calib").mkdir()
    Image.new("RGB", (200, 60)).save(tmp_path / "images" / "000001.png")
    (tmp_path / "calib" / "000001.txt").write_text("P2: 150 0 100 0 0 150 30 0 0 0 1 0\n")
    label = "['Car', '0', '0', '0', '1', '1', '9', '9', '1.5', '1.8', '4', '1', '1.7', '12', '0.3']"
    rows = [
        {"im_name": "000001", "instanceID": 7, "ann_id": 1, "objectName": "car", "label_2": label,
         "description": text}
        for text in ("the red car", "the car 12.0 meters away")
    ]  # fmt: skip
    (tmp_path / "Mono3DRefer.json").write_text(json.dumps(rows))
    (tmp_path / "Mono3DRefer_test_image.txt").write_text("000001\n")
    (tmp_path / "test_instanceID_split.json").write_text(
        json.dumps({"Unique": [7], "Multiple": [], "Far": [7], "Hard": [8]})
    )
    data = read("mono3drefer", tmp_path)
    assert {s.subsets for s in data.samples} == {("unique", "far")}
    assert [s.expression for s in data.without_measures().samples] == ["the red car", "the car some away"]
    assert data.without_measures().protocol["measures"] == "hidden"
    table = grouped(data.samples, [s.targets for s in data.samples])
    assert [r["group"] for r in table] == ["unique", "unique leaks", "far", "all"]
    assert [r["questions"] for r in table] == [2, 1, 2, 2]
    assert [s.group for s in data.samples] == ["unique", "unique leaks"]
    assert {s.split for s in data.samples} == {"test"}
    assert data.protocol["leaking"] == 1
    rows[0]["label_2"] = "__import__('os')"
    (tmp_path / "Mono3DRefer.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="no list"):
        read("mono3drefer", tmp_path)


def test_omni3d(tmp_path: Path) -> None:
    (tmp_path / "Omni3D").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    box = Box.upright((0.5, 0.2, 6.0), (2.0, 1.5, 1.0), 0.4)
    note = {
        "id": 1, "image_id": 5, "category_name": "chair", "valid3D": True, "behind_camera": False,
        "center_cam": box.centre.tolist(), "dimensions": [1.0, 1.5, 2.0], "R_cam": box.rotation.tolist(),
        "bbox3D_cam": box.corners().tolist(), "bbox2D_tight": [-1] * 4, "bbox2D_trunc": [80, 20, 130, 70],
        "bbox2D_proj": [80, 20, 130, 70], "truncation": 0.0, "visibility": 1.0,
    }  # fmt: skip
    camera = Camera(150.0, 150.0, 100.0, 50.0, 200, 100)
    image = {"id": 5, "width": 200, "height": 100, "file_path": "a.jpg", "K": camera.matrix.tolist()}
    hidden = {**note, "id": 2, "visibility": 0.1, "category_name": "table"}
    corners_only = {k: v for k, v in note.items() if k not in ("center_cam", "R_cam")}
    content = {"info": [], "images": [image], "categories": [],
               "annotations": [note, hidden, {**corners_only, "category_name": "bed"}]}  # fmt: skip
    (tmp_path / "Omni3D" / "SUNRGBD_test.json").write_text(json.dumps(content))
    data = read("omni3d", tmp_path)
    assert data.protocol["ignored"] == 1
    by_name = {s.targets[0].name: s.targets[0] for s in data.samples}
    assert set(by_name) == {"chair", "bed"}
    for found in by_name.values():
        assert np.allclose(found.corners(), box.corners(), atol=1e-6)
    assert data.samples[0].group.startswith("SUNRGBD")
    rule = IgnoreRule()
    assert not rule.ignores(note, 100)
    for change in ({"behind_camera": True}, {"lidar_pts": 0}, {"truncation": 0.5}, {"depth_error": 0.6},
                   {"bbox2D_trunc": [1, 1, 9, 4]}, {"dimensions": [0, 1, 1]}):  # fmt: skip
        assert rule.ignores({**note, **change}, 100), change
    assert not TRAINING.ignores({**note, "truncation": 0.5, "visibility": 0.3}, 100)
    with pytest.raises(DataError, match="NAME_train"):
        read("omni3d", tmp_path.parent)
    lost = {k: v for k, v in note.items() if k != "image_id"}
    damaged = {**content, "annotations": [lost, {**note, "dimensions": "big"}, note]}
    half, number = {"images": [{"id": 1}]}, {"images": [5]}
    cases = (damaged, "lacks 'image_id'"), ([1], "no object"), (half, "incomplete"), (number, "lacks 'id'")
    for broken, message in cases:
        (tmp_path / "Omni3D" / "SUNRGBD_test.json").write_text(json.dumps(broken))
        with pytest.raises(DataError, match=message):
            read("omni3d", tmp_path)
    (tmp_path / "Omni3D" / "SUNRGBD_test.json").write_text(json.dumps(damaged))
    told = [p.what for p in check_source(f"omni3d:{tmp_path}")]
    assert any("image_id" in t for t in told) and any("damaged" in t for t in told)


def test_edges_behind_the_camera_are_cut() -> None:
    camera = Camera(100.0, 100.0, 50.0, 50.0, 100, 100).matrix
    inside = Box.upright((0, 0, 0.2), (1, 1, 1), 0.0)
    assert 0 < len(segments(inside, camera)) < 12
    assert not segments(Box.upright((0, 0, -5), (1, 1, 1), 0.0), camera)
    picture = on_picture(Image.new("RGB", (100, 100)), camera, [inside, Box.upright((0, 0, 5), (1, 1, 1), 0)])
    assert np.asarray(picture).any()
    assert from_above([inside]).size == from_above([]).size


def test_real_frames_are_read_and_scored_against_themselves(shared: Path) -> None:
    root = shared / "data" / "kitti6"
    data = read("kitti", root)
    boxes = {s.key: (*s.targets, *s.others) for s in data.samples}
    assert sum(len(b) for b in boxes.values()) == 10
    labels = [kitti_labels(f) for f in sorted((root / "label_2").glob("*.txt"))]
    scenes = [Scene(found, found) for found in labels]
    assert ap_3d(scenes)["ap"] == 1.0
    for sample in data.samples:
        left, top, right, bottom = sample.targets[0].bounds(
            sample.camera.matrix, sample.camera.width, sample.camera.height
        )
        written = [line.split() for line in (root / "label_2" / f"{Path(sample.key).stem}.txt").open()]
        drawn = [[float(v) for v in w[4:8]] for w in written if w[0] != "DontCare"]
        gaps = [np.abs(np.array(d) - (left, top, right, bottom)).max() for d in drawn]
        assert min(gaps) < 12.0
    camera, offset = read_calibration(root / "calib" / "000000.txt", (1224, 370))
    assert offset[0] == pytest.approx(45.75831 / 707.0493, abs=5e-3)
    assert isinstance(data, SpatialData)
    assert camera.origin == "calibration"
