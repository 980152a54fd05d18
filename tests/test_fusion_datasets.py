"""Readers of the benchmark layouts, and what the check finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fusion_scenes
from wildsight.datasets.multimodal import Band
from wildsight.errors import DataError
from wildsight.fusion.data import check, check_source, needed, read, read_mask, read_source, read_values
from wildsight.fusion.scenes import depths
from wildsight.fusion.scoring import Scorer

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def save(path: Path, values: np.ndarray = GREY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_plain_folder(tmp_path: Path) -> None:
    data = read_source(fusion_scenes.write(tmp_path, 3, 2))
    assert data.modalities == ("rgb", "depth", "thermal") and data.classes == ("none", "one", "two", "both")
    assert [len(data.part(s)) for s in ("train", "validation", "test")] == [3, 0, 2]
    sample = data.part("test")[0]
    _, mask = fusion_scenes.scene(1000)
    assert np.array_equal(read_mask(sample, data.found), mask)
    assert check(data) == [] and check_source(tmp_path) == []
    assert read_source(tmp_path).protocol["hash"] == data.protocol["hash"]


def test_a_folder_without_splits_is_split_by_hash(tmp_path: Path) -> None:
    for i in range(30):
        for name in ("rgb", "depth", "masks"):
            save(tmp_path / name / f"{i}.png")
    data = read_source(tmp_path)
    assert 15 < len(data.part("train")) < 30 and data.classes == ("background", "foreground")
    assert read_mask(data.part("train")[0], data.found).max() == 1


def test_deliver(tmp_path: Path) -> None:
    labels = np.zeros((8, 8, 3), np.uint8)
    labels[0, :4, 0] = [0, 255, 1, 25]
    labels[1:, :, 0] = 7
    for weather, split, place in (
        ("fog", "train", "MAP_1_point1"),
        ("night", "val", "MAP_1_point2_motionblur"),
    ):
        planes = dict.fromkeys(fusion_scenes.DELIVER, GREY) | {"semantic": labels}
        fusion_scenes.deliver_frame(tmp_path, (weather, split, place), "045", planes)
    data = read("deliver", tmp_path)
    train, val = data.part("train")[0], data.part("validation")[0]
    assert (train.conditions, val.conditions) == (("fog",), ("night", "motionblur"))
    assert len(data.classes) == 25
    assert (
        set(train.pictures) == {"rgb", "depth", "event", "lidar"}
        and train.name == "fog/train/MAP_1_point1/045"
    )
    ids = read_mask(train, data.found)
    assert ids[0, :4].tolist() == [255, 255, 0, 24] and ids[2, 2] == 6
    clear = np.dstack([GREY, GREY, GREY, GREY * 0])  # alpha 0 everywhere: dropped, not blended
    save(tmp_path / "img" / "fog" / "train" / "MAP_1_point1" / "045_rgb_front.png", clear)
    assert np.allclose(read_values(train.pictures["rgb"], "rgb")[..., 0], GREY / 255)
    assert np.allclose(read_values(train.pictures["lidar"], "lidar")[..., 2], GREY / 255)
    (tmp_path / "img" / "fog" / "training").mkdir()
    with pytest.raises(DataError, match="training: is no split; name it train, val or test"):
        read("deliver", tmp_path)


@pytest.mark.parametrize("names", [("V", "D", "T"), ("RGB", "depth", "thermal")])
def test_vdt_in_both_layouts(names: tuple[str, str, str], tmp_path: Path) -> None:
    for split in ("Train", "Test", "V-BSO"):
        for name in (*names, "GT"):
            save(tmp_path / split / name / "b.png", GREY * 4)
            save(tmp_path / split / name / "a.png", GREY * 4)
    data = read("vdt2048", tmp_path)
    assert data.found.task == "saliency" and len(data.part("train")) == 2 and len(data.part("test")) == 4
    for sample in data.found.samples:  # paired by stem, whatever the order of a listing
        assert len({p.stem for p in sample.pictures.values() if isinstance(p, Path)}) == 1
    assert {(s.condition, s.repeated) for s in data.part("test")} == {("test", False), ("V-BSO", True)}
    scorer = Scorer(data.found)
    for number, sample in enumerate(data.part("test")):
        scorer.add((sample, torch.full((1, 8, 8), float(number)), None))
    rows = {row.pop("condition"): row for row in scorer.rows()}
    assert list(rows) == ["test", "V-BSO", "all"] and rows["all"] == rows["test"] != rows["V-BSO"]
    (tmp_path / "Train" / "GT" / "b.png").unlink()
    assert "scene Train/b has no mask" in "\n".join(p.what for p in check(read("vdt2048", tmp_path)))
    shutil.rmtree(tmp_path / "Test")  # challenges alone: each scene counts once
    shutil.copytree(tmp_path / "V-BSO", tmp_path / "V-SA")
    assert [s.repeated for s in read("vdt2048", tmp_path).part("test")] == [False, False, True, True]
    assert read_mask(data.part("train")[0], data.found).sum() == (GREY * 4 > 128).sum()


def test_mfnet_has_thermal_in_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([GREY, GREY + 1, GREY + 2, GREY + 100])
    save(tmp_path / "images" / "0001D.png", rgba)
    save(tmp_path / "labels" / "0001D.png", GREY // 8)
    (tmp_path / "train.txt").write_text("0001D\n")
    data = read("mfnet", tmp_path)
    sample = data.part("train")[0]
    assert sample.condition == "day" and isinstance(sample.pictures["thermal"], Band)
    assert np.allclose(read_values(sample.pictures["thermal"], "thermal")[..., 1], (GREY + 100) / 255)
    assert np.allclose(read_values(sample.pictures["rgb"], "rgb"), rgba[..., :3] / 255)
    assert np.array_equal(read_mask(sample, data.found), GREY // 8)


def test_nyu(tmp_path: Path) -> None:
    for folder in ("RGB", "HHA", "Label"):
        save(tmp_path / folder / "7.png", GREY % 41)
    (tmp_path / "train.txt").write_text("RGB/7.jpg Label/7.png\n")
    data = read("nyuv2", tmp_path)
    ids = read_mask(data.part("train")[0], data.found)
    assert ids[0, 0] == 255 and ids[0, 1] == 0 and len(data.classes) == 40


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    for name in ("deliver", "vdt2048", "mfnet", "nyuv2", "folder"):
        with pytest.raises(DataError, match=f"holds no {name} layout"):
            read(name, tmp_path)
    with pytest.raises(DataError, match="no reader"):
        read("kitti", tmp_path)


def found(root: Path) -> str:
    return "\n".join(f"{p.file.name}: {p.what}; {p.hint}" for p in check(read_source(root)))


def test_the_check_names_every_fault(tmp_path: Path) -> None:
    root = fusion_scenes.write(tmp_path, 6, 2)
    train = root / "train"
    (train / "thermal" / "000.png").unlink()
    (train / "masks" / "001.png").unlink()
    save(train / "depth" / "002.png", np.zeros((30, 32), np.uint8))
    (train / "rgb" / "003.png").write_bytes(b"no picture")
    save(train / "masks" / "004.png", np.full((32, 32), 9, np.uint8))
    save(train / "thermal" / "005.png", np.zeros((32, 32), np.uint16))
    (root / "test" / "rgb" / "001.png").write_bytes((train / "rgb" / "005.png").read_bytes())
    text = found(root)
    for piece in (
        "has no thermal", "has no mask", "depth is 32 x 30, its rgb 32 x 32", "not a picture",
        "id 9, which is no class", "thermal mixes 6 of 8 bits and 1 of 16 bits",
        "the same picture as",
    ):  # fmt: skip
        assert piece in text, piece
    data = read_source(root)
    with pytest.raises(DataError, match="thermal has 16 bits, the others 8"):
        depths(data.found.samples, ("thermal",))
    with pytest.raises(DataError, match=r"png: its scene has no thermal; add it"):
        needed(data.part("train"), data.modalities, allow_missing=False)
    needed(data.part("train"), data.modalities, allow_missing=True)


def test_deep_depth_needs_a_unit(tmp_path: Path) -> None:
    for i in range(3):
        for name in ("rgb", "masks"):
            save(tmp_path / "train" / name / f"{i}.png", GREY + i)
        save(tmp_path / "train" / "depth" / f"{i}.png", (GREY.astype(np.uint16) + i) * 100)
    assert "depth of 16 bits in an unstated unit" in found(tmp_path)
    sample = read_source(tmp_path).part("train")[0]
    with pytest.raises(DataError, match=r'unstated unit; state it in fusion\.json: .*"depth"'):
        read_values(sample.pictures["depth"], "depth")
    (tmp_path / "fusion.json").write_text('{"modalities": {"depth": {"full_scale": 10000, "unit": "mm"}}}')
    data = read_source(tmp_path)
    values = read_values(data.part("train")[0].pictures["depth"], "depth", data.found.scales["depth"])
    assert np.allclose(values[..., 0], GREY * 100.0 / 10000)
    (tmp_path / "fusion.json").write_text('{"modalities": {"depth": {"full_scale": 10000}}}')
    with pytest.raises(DataError, match="no full_scale and unit for depth"):
        read_source(tmp_path)


def test_any_layout_takes_its_units_from_the_settings(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 100
    for folder, values in (("RGB", GREY), ("Depth", deep), ("Label", GREY % 41)):
        save(tmp_path / "nyu" / folder / "7.png", values)
    (tmp_path / "nyu" / "train.txt").write_text("7\n")
    for folder, values in (("rgb", GREY), ("thermal", GREY), ("depth", deep), ("mask", GREY)):
        save(tmp_path / "crack" / "train" / folder / "7.png", values)
    (tmp_path / "crack" / "index.json").write_text('[{"id": "7", "light": "dark"}]')
    for folder, values in (("V", GREY), ("D", deep), ("T", GREY), ("GT", GREY)):
        save(tmp_path / "vdt" / "Train" / folder / "7.png", values)
    for name, root in (("nyuv2", "nyu"), ("crack-rgbtd", "crack"), ("vdt2048", "vdt")):
        assert "depth" not in read(name, tmp_path / root).found.scales
        (tmp_path / root / "fusion.json").write_text(
            '{"modalities": {"depth": {"full_scale": 10000, "unit": "mm"}}}'
        )
        data = read(name, tmp_path / root)
        sample = data.part("train")[0]
        values = read_values(sample.pictures["depth"], "depth", data.found.scales["depth"])
        assert np.allclose(values[..., 0], deep / 10000.0)
        assert not any("unstated unit" in p.what for p in check(data))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1]", "is no object"),
        ('{"classes": 3}', "states no classes"),
        ('{"classes": ["a", 2]}', "states no classes"),
        ('{"task": "saliencey"}', "states no task"),
        ('{"conditions": {"000": 3}}', "states no conditions"),
        ('{"modalities": ["depth"]}', "states no modalities"),
        (
            '{"modalities": {"depth": {"full_scale": "ten", "unit": "mm"}}}',
            "no full_scale and unit for depth",
        ),
        ('{"modalities": {"depth": {"full_scale": -1, "unit": "mm"}}}', "no full_scale and unit for depth"),
        ('{"modalities": {"dpeth": {"full_scale": 10, "unit": "mm"}}}', "a unit for 'dpeth', which the set"),
        ('{"clases": ["a", "b"]}', "states 'clases', which is unknown"),
        ("{", "not a readable JSON file"),
    ],
)
def test_settings_that_say_nothing_are_named(text: str, what: str, tmp_path: Path) -> None:
    for name in ("rgb", "depth", "masks"):
        save(tmp_path / "train" / name / "000.png")
    (tmp_path / "fusion.json").write_text(text)
    with pytest.raises(DataError, match=rf"fusion\.json: .*{what}.*; "):
        read_source(tmp_path)


def test_the_real_set_reads(shared: Path) -> None:
    root = shared / "data" / "crack_rgbtd"
    if not root.is_dir():
        pytest.skip("the crack set is not on this machine")
    data = read("crack-rgbtd", root)
    assert len(data.part("train")) == 237 and len(data.part("test")) == 95
    assert {s.condition for s in data.found.samples} == {"bright", "dark"}
    needed(data.found.samples, data.modalities, allow_missing=False)
