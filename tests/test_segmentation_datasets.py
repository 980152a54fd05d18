"""Layouts, the hashed split, masks, and the check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.errors import ConfigError, DataError
from wildsight.segmentation.data import (
    READERS,
    SegmentationData,
    at_most,
    check,
    hashed_split,
    read,
    read_mask,
    read_source,
)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def mask(path: Path, *, filled: bool = True, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[2:6, 3:8] = 255 * filled
    Image.fromarray(values).save(path)
    return path


def names(data: SegmentationData, split: str) -> list[str]:
    return data.splits()[split]


def test_mvtec_like(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / f"part/test/dent/{i:03d}.png", i)
        mask(tmp_path / f"part/ground_truth/dent/{i:03d}_mask.png")
    picture(tmp_path / "part/test/good/000.png", 99)
    data = read("mvtec-ad", tmp_path)
    assert len(data.samples) == 6
    assert len(data.train) == len(data.test) == 3
    assert {s.category for s in data.samples} == {"part"} and {s.defect for s in data.samples} == {"dent"}
    assert read_mask(data.samples[0]).sum() == 20


def test_two_masks_of_a_picture_are_united(tmp_path: Path) -> None:
    picture(tmp_path / "part/test/logic/000.png")
    mask(tmp_path / "part/ground_truth/logic/000/000.png")
    Image.fromarray(np.eye(10, 12, dtype=np.uint8) * 255).save(
        tmp_path / "part/ground_truth/logic/000/001.png"
    )
    sample = read("folder", tmp_path).samples[0]
    assert len(sample.masks) == 2
    assert read_mask(sample).sum() == 20 + 10 - 3


def test_ksdd2_has_its_own_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            picture(tmp_path / split / f"{i:05d}.png", i)
            mask(tmp_path / split / f"{i:05d}_GT.png", filled=i > 0)
    data = read("ksdd2", tmp_path)
    assert names(data, "train") == ["train/00001.png", "train/00002.png"]
    assert names(data, "test") == ["test/00001.png"]


def test_mtd_leaves_the_good_out(tmp_path: Path) -> None:
    for kind in ("Crack", "Free"):
        for i in range(2):
            picture(tmp_path / f"MT_{kind}/Imgs/exp{i}.jpg", i)
            mask(tmp_path / f"MT_{kind}/Imgs/exp{i}.png")
    data = read("mtd", tmp_path)
    assert {s.defect for s in data.samples} == {"crack"}
    assert len(data.train) == len(data.test) == 1


def test_spt_form(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / "set" / split / "a.jpg")
        mask(tmp_path / "set" / split / "a.png")
        picture(tmp_path / "set" / split / "b.jpg", 1)
        mask(tmp_path / "set" / split / "b.png", filled=False)
    data = read("spt", tmp_path)
    assert names(data, "train") == ["set/train/a.jpg"] and names(data, "test") == ["set/test/a.jpg"]


@pytest.mark.parametrize("form", ["images+masks", "abnormal+masks", "beside", "classes"])
def test_plain_folder(form: str, tmp_path: Path) -> None:
    for i in range(4):
        if form == "beside":
            picture(tmp_path / f"{i}.jpg", i)
            mask(tmp_path / f"{i}.png")
        else:
            inner = tmp_path / "steel" if form == "classes" else tmp_path
            where = "abnormal" if form == "abnormal+masks" else "images"
            picture(inner / where / f"{i}.png", i)
            mask(inner / "masks" / f"{i}_mask.png")
    data = read_source(tmp_path)
    assert len(data.samples) == 4 and all(s.masks for s in data.samples)
    assert data.categories == ("steel" if form == "classes" else tmp_path.name,)
    assert check(data) == []


def make(folder: Path, count: int = 8) -> SegmentationData:
    for i in range(count):
        picture(folder / "images" / f"{i}.png", i)
        mask(folder / "masks" / f"{i}.png")
    return read("folder", folder)


def test_split_depends_on_relative_paths_alone(tmp_path: Path) -> None:
    one, other = make(tmp_path / "x" / "set"), make(tmp_path / "y" / "set")
    assert one.splits() == other.splits()
    assert one.protocol["hash"] == other.protocol["hash"]
    again = hashed_split(tuple(reversed(one.samples)), one.root)
    assert {s.image for s in again if s.split == "train"} == {s.image for s in one.train}


def test_a_larger_share_keeps_the_smaller_one(tmp_path: Path) -> None:
    samples = make(tmp_path).samples
    halves = [
        {s.image for s in hashed_split(samples, tmp_path, f) if s.split == "train"} for f in (0.25, 0.5, 1.0)
    ]
    assert [len(h) for h in halves] == [2, 4, 8]
    assert halves[0] < halves[1] < halves[2]
    with pytest.raises(ConfigError, match="train_fraction"):
        hashed_split(samples, tmp_path, 0.0)


def test_kinds_with_a_single_defect_fall_on_both_sides(tmp_path: Path) -> None:
    for i in range(40):
        picture(tmp_path / f"part/test/kind{i}/0.png", i)
        mask(tmp_path / f"part/ground_truth/kind{i}/0.png")
    data = read("mvtec-ad", tmp_path)
    assert 10 < len(data.train) < 30
    few = {s.image for s in read("mvtec-ad", tmp_path, train_fraction=0.2).train}
    assert few < {s.image for s in data.train}


def test_at_most_deals_over_the_kinds(tmp_path: Path) -> None:
    for kind, count in (("dent", 6), ("hole", 2)):
        for i in range(count):
            picture(tmp_path / f"part/test/{kind}/{i}.png", i + 10 * count)
            mask(tmp_path / f"part/ground_truth/{kind}/{i}.png")
    data = read("mvtec-ad", tmp_path, train_fraction=1.0)
    chosen = at_most(data.samples, 4, tmp_path)
    assert sorted(s.defect for s in chosen) == ["dent", "dent", "hole", "hole"]
    assert at_most(data.samples, 100, tmp_path).__len__() == 8


def test_check_names_every_fault(tmp_path: Path) -> None:
    make(tmp_path, 6)
    mask(tmp_path / "masks/0.png", filled=False)
    mask(tmp_path / "masks/1.png", size=(5, 5))
    (tmp_path / "masks/2.png").unlink()
    values = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(values).save(tmp_path / "masks/3.png")
    (tmp_path / "images/4.png").write_bytes(b"no picture")
    texts = [f"{p.file.name}: {p.what}" for p in check(read("folder", tmp_path))]
    assert any(t.startswith("0.png: an empty mask") for t in texts)
    assert any(t.startswith("1.png: is 5 x 5, its picture 12 x 10") for t in texts)
    assert any(t.startswith("2.png: a defect without a mask") for t in texts)
    assert any(t.startswith("3.png: a mask with 120 values, not two") for t in texts)
    assert any(t.startswith("4.png: ") for t in texts)
    assert len(texts) == 5


def test_check_finds_a_picture_in_both_halves(tmp_path: Path) -> None:
    data = make(tmp_path)
    data.test[0].image.write_bytes(data.train[0].image.read_bytes())
    assert any("the same picture as" in p.what for p in check(read("folder", tmp_path)))


def test_faults_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read("folder", tmp_path / "absent")
    with pytest.raises(DataError, match="holds no defect in the mtd layout"):
        read("mtd", tmp_path)
    with pytest.raises(DataError, match="no reader is called"):
        read("nosuch", tmp_path)
    assert "ksdd2" in READERS


def test_reading_imports_no_torch(tmp_path: Path) -> None:
    make(tmp_path)
    code = (
        "import sys; from wildsight.segmentation.data import check_source; "
        f"check_source({str(tmp_path)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_masks(shared: Path) -> None:
    data = read_source(f"mvtec-ad:{shared / 'data' / 'anomaly'}")
    assert data.categories == ("juice_bottle", "magnetic_tile", "pcb", "road")
    assert len(data.samples) == 734
    assert all(s.masks for s in data.samples)
    assert abs(len(data.train) - len(data.test)) < 15
