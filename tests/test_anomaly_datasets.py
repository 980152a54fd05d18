"""Every benchmark layout on a generated tiny folder, masks, and each fault that the check names."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.anomaly.data import READERS, AnomalyData, AnomalySample, Problem, check, read, read_mask
from wildsight.datasets.masks import pairs_in
from wildsight.errors import DataError

SIZE = (8, 6)
_drawn = iter(range(10**6))


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A colour picture unlike any other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(next(_drawn))
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, value: int = 255, size: tuple[int, int] = SIZE) -> Path:
    """A mask with one defective pixel of ``value`` at row 1, column 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), dtype=np.uint8)
    values[1, 2] = value
    Image.fromarray(values).save(path)
    return path


def mvtec(root: Path, category: str = "nut", *, suffix: str = "_mask", ending: str = ".png") -> Path:
    folder = root / category
    for k in range(3):
        picture(folder / "train" / "good" / f"{k:03}.png")
    picture(folder / "test" / "good" / "000.png")
    picture(folder / "test" / "scratch" / "000.png")
    mask(folder / "ground_truth" / "scratch" / f"000{suffix}{ending}")
    return folder


def tally(data: AnomalyData) -> dict[str, int]:
    return dict(Counter(f"{s.split} {s.label} {len(s.masks)}" for s in data.samples))


MVTEC = {"train 0 0": 3, "test 0 0": 1, "test 1 1": 1}


@pytest.mark.parametrize("name", ["mvtec-ad", "mpdd", "btad", "visa", "folder"])
@pytest.mark.parametrize(("suffix", "ending"), [("_mask", ".png"), ("", ".bmp"), ("_GT", ".png")])
def test_mvtec_form(tmp_path: Path, name: str, suffix: str, ending: str) -> None:
    mvtec(tmp_path, suffix=suffix, ending=ending)
    mvtec(tmp_path, "tile", suffix=suffix, ending=ending)
    (tmp_path / "readme.txt").write_text("not a category")
    data = read(name, tmp_path)
    assert data.categories == ("nut", "tile")
    assert tally(data.select(["nut"])) == MVTEC
    assert {s.defect for s in data.test} == {"good", "scratch"}
    assert check(data) == []


def test_one_category_as_root(tmp_path: Path) -> None:
    data = read("folder", mvtec(tmp_path))
    assert data.categories == ("nut",)
    assert tally(data) == MVTEC


def test_mvtec_ad2(tmp_path: Path) -> None:
    folder = tmp_path / "can"
    for part in ("train", "validation", "test_public", "test_private"):
        picture(folder / part / "good" / "0.png")
    picture(folder / "test_public" / "bad" / "1.png")
    mask(folder / "test_public" / "ground_truth" / "bad" / "1_mask.png")
    data = read("mvtec-ad2", tmp_path)
    assert tally(data) == {"train 0 0": 1, "validation 0 0": 1, "test 0 0": 1, "test 1 1": 1}
    assert len(data.validation) == 1
    assert check(data) == []


def test_mvtec_loco_unites_masks(tmp_path: Path) -> None:
    folder = mvtec(tmp_path)
    picture(folder / "test" / "logical_anomalies" / "007.png")
    for k, column in enumerate((0, 5)):
        file = folder / "ground_truth" / "logical_anomalies" / "007" / f"{k:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = np.zeros((6, 8), dtype=np.uint8)
        values[0, column] = 3
        Image.fromarray(values).save(file)
    data = read("mvtec-loco", tmp_path)
    sample = next(s for s in data.test if s.defect == "logical_anomalies")
    assert len(sample.masks) == 2
    np.testing.assert_array_equal(np.argwhere(read_mask(sample, (6, 8))), [[0, 0], [0, 5]])
    assert check(data) == []


def test_autovi(tmp_path: Path) -> None:
    """A folder of masks a picture, and ``defects_config.json`` beside them."""
    part = tmp_path / "pipe_clip"
    picture(part / "train" / "good" / "0000.png")
    picture(part / "test" / "good" / "0001.png")
    picture(part / "test" / "unclipped" / "0002.png")
    mask(part / "ground_truth" / "unclipped" / "0002" / "0000.png")
    (part / "defects_config.json").write_text("[]")
    data = read("autovi", tmp_path)
    assert tally(data) == {"train 0 0": 1, "test 0 0": 1, "test 1 1": 1}
    assert data.test[1].defect == "unclipped"
    assert check(data) == []


def test_btad_names(tmp_path: Path) -> None:
    picture(tmp_path / "03" / "train" / "ok" / "0.bmp")
    picture(tmp_path / "03" / "test" / "ok" / "0.bmp")
    picture(tmp_path / "03" / "test" / "ko" / "1.png")
    mask(tmp_path / "03" / "ground_truth" / "ko" / "1.bmp")
    assert tally(read("btad", tmp_path)) == {"train 0 0": 1, "test 0 0": 1, "test 1 1": 1}


def test_visa_raw(tmp_path: Path) -> None:
    base = Path("candle/Data")
    rows = [
        ["candle", "train", "normal", str(base / "Images/Normal/0000.JPG"), ""],
        ["candle", "test", "normal", str(base / "Images/Normal/0001.JPG"), ""],
        [
            "candle",
            "test",
            "anomaly",
            str(base / "Images/Anomaly/000.JPG"),
            str(base / "Masks/Anomaly/000.png"),
        ],
    ]
    for row in rows:
        picture(tmp_path / row[3])
    mask(tmp_path / rows[2][4], value=1)
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["object", "split", "label", "image", "mask"], *rows])
    data = read("visa", tmp_path)
    assert tally(data) == {"train 0 0": 1, "test 0 0": 1, "test 1 1": 1}
    assert read_mask(data.test[1], (6, 8))[1, 2]
    assert check(data) == []
    table.write_text("object,split,label,image,mask\ncandle,train,odd,a,b\n")
    with pytest.raises(DataError, match="odd"):
        read("visa", tmp_path)


def test_visa_prepared_below_1cls(tmp_path: Path) -> None:
    mvtec(tmp_path / "1cls", "candle", suffix="")
    assert tally(read("visa", tmp_path)) == MVTEC


def test_real_iad(tmp_path: Path) -> None:
    good, bad = "OK/S0001/a.jpg", "NG/BX/S0002/b.jpg"
    folder = tmp_path / "realiad_256" / "audiojack"
    picture(folder / good)
    picture(folder / bad)
    mask(folder / "NG/BX/S0002/b_mask.png")
    lists = tmp_path / "realiad_jsons" / "realiad_jsons" / "audiojack.json"
    lists.parent.mkdir(parents=True)
    item = {"image_path": bad, "mask_path": "NG/BX/S0002/b_mask.png", "anomaly_class": "BX"}
    plain = {"image_path": good, "mask_path": None, "anomaly_class": "OK"}
    lists.write_text(json.dumps({"meta": {"prefix": "audiojack/"}, "train": [plain], "test": [item]}))
    data = read("real-iad", tmp_path)
    assert tally(data) == {"train 0 0": 1, "test 1 1": 1}
    assert data.test[0].defect == "BX"
    assert check(data) == []
    lists.write_text("[]")
    with pytest.raises(DataError, match="Real-IAD list"):
        read("real-iad", tmp_path)


def test_ksdd_label_is_the_mask(tmp_path: Path) -> None:
    for k in range(6):
        picture(tmp_path / f"kos{k:02}" / "Part0.jpg")
        mask(tmp_path / f"kos{k:02}" / "Part0_label.bmp", value=255 if k == 5 else 0)
    data = read("ksdd", tmp_path)
    assert tally(data) == {"train 0 1": 4, "test 0 1": 1, "test 1 1": 1}
    assert check(data) == []


def test_ksdd2_trains_with_defects(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for k, value in enumerate((0, 255)):
            picture(tmp_path / split / f"{k:05}.png")
            mask(tmp_path / split / f"{k:05}_GT.png", value)
    data = read("ksdd2", tmp_path)
    assert tally(data) == {"train 0 1": 1, "train 1 1": 1, "test 0 1": 1, "test 1 1": 1}
    assert [s.label for s in data.normal] == [0]
    assert check(data) == []


def test_mtd(tmp_path: Path) -> None:
    for k in range(5):
        picture(tmp_path / "MT_Free" / "Imgs" / f"f{k}.jpg")
        mask(tmp_path / "MT_Free" / "Imgs" / f"f{k}.png", value=0)
    picture(tmp_path / "MT_Crack" / "Imgs" / "c.jpg")
    mask(tmp_path / "MT_Crack" / "Imgs" / "c.png")
    data = read("mtd", tmp_path)
    assert tally(data) == {"train 0 1": 4, "test 0 1": 1, "test 1 1": 1}
    assert {s.defect for s in data.samples} == {"good", "crack"}
    assert check(data) == []


def test_spt_leaves_empty_masks_out(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for stem, value in (("a", 255), ("b", 0)):
            picture(tmp_path / "visa" / split / f"{stem}.jpg")
            mask(tmp_path / "visa" / split / f"{stem}.png", value)
    data = read("spt", tmp_path)
    assert tally(data) == {"train 1 1": 1, "test 1 1": 1}
    assert data.categories == ("visa",)
    assert check(data) == []


def test_normal_and_abnormal_folders(tmp_path: Path) -> None:
    for k in range(10):
        picture(tmp_path / "part" / "normal" / f"{k}.png")
    picture(tmp_path / "part" / "abnormal" / "x.webp")
    mask(tmp_path / "part" / "masks" / "x_mask.png")
    expected = {"train 0 0": 8, "test 0 0": 2, "test 1 1": 1}
    assert tally(read("folder", tmp_path)) == tally(read("folder", tmp_path / "part")) == expected
    assert read("folder", tmp_path) == read("folder", tmp_path)
    assert check(read("folder", tmp_path)) == []


def test_good_pictures_alone_all_train(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / "normal" / f"{k}.png")
    assert tally(read("folder", tmp_path)) == {"train 0 0": 4}


def test_pairs_beside_each_other(tmp_path: Path) -> None:
    alone, jpg, png = (picture(tmp_path / name) for name in ("a.png", "b.jpg", "c.png"))
    beside, truth = mask(tmp_path / "b.png"), mask(tmp_path / "c_GT.png")
    assert dict(pairs_in(tmp_path)) == {alone: (), jpg: (beside,), png: (truth,)}


def test_masks_are_nearest_resized(tmp_path: Path) -> None:
    file = mask(tmp_path / "m.png", size=(8, 6))
    sample = AnomalySample(tmp_path / "i.png", (file,), 1, "c", "d", "test")
    double = read_mask(sample, (12, 16))
    np.testing.assert_array_equal(np.argwhere(double), [[2, 4], [2, 5], [3, 4], [3, 5]])
    reference = Image.open(file).resize((5, 4), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(read_mask(sample, (4, 5)), np.asarray(reference) > 0)
    good = AnomalySample(tmp_path / "i.png", (), 0, "c", "good", "test")
    assert not read_mask(good, (3, 3)).any()
    with pytest.raises(DataError, match="without a mask"):
        read_mask(AnomalySample(tmp_path / "i.png", (), 1, "c", "d", "test"), (3, 3))


def test_a_defect_lost_in_resizing_keeps_its_label(tmp_path: Path) -> None:
    data = read("mvtec-ad", mvtec(tmp_path))
    sample = data.test[1]
    assert sample.label == 1
    assert not read_mask(sample, (1, 1)).any()


def test_protocol_hash_follows_labels_not_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        mvtec(tmp_path / name)
    one, two = read("mvtec-ad", tmp_path / "one"), read("mvtec-ad", tmp_path / "two")
    assert one.protocol == two.protocol
    picture(tmp_path / "two" / "nut" / "test" / "good" / "001.png")
    assert read("mvtec-ad", tmp_path / "two").protocol["hash"] != one.protocol["hash"]
    assert one.protocol["counts"] == {"train_good": 3, "test_good": 1, "test_defect": 1}


def test_select(tmp_path: Path) -> None:
    mvtec(tmp_path)
    mvtec(tmp_path, "tile")
    data = read("mvtec-ad", tmp_path)
    assert data.select(None) is data
    assert data.select(["tile"]).protocol["categories"] == ["tile"]
    with pytest.raises(DataError, match=r"nuts.*nut, tile"):
        data.select(["nuts"])


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "holiday" / "beach.jpg")
    with pytest.raises(DataError):
        read(name, tmp_path)
    with pytest.raises(DataError, match=r"no such (folder|file)"):
        read(name, tmp_path / "absent")


def test_an_empty_category_is_refused(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "tile" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match="tile"):
        read("mvtec-ad", tmp_path)


def test_an_unknown_reader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mvtec-ad"):
        read("mvtek", tmp_path)


def only_problem(root: Path) -> Problem:
    problems = check(read("mvtec-ad", root))
    assert len(problems) == 1, problems
    return problems[0]


def test_check_names_a_mask_without_picture(tmp_path: Path) -> None:
    file = mask(mvtec(tmp_path) / "ground_truth" / "dent" / "004_mask.png")
    problem = only_problem(tmp_path)
    assert problem.file == file
    assert "without its picture" in problem.what


def test_check_names_a_defect_without_mask(tmp_path: Path) -> None:
    file = picture(mvtec(tmp_path) / "test" / "scratch" / "001.png")
    assert only_problem(tmp_path).file == file
    (tmp_path / "nut" / "ground_truth" / "scratch" / "000_mask.png").unlink()
    assert "no defect of nut has a mask" in only_problem(tmp_path).what


def test_check_names_sizes_and_empty_masks(tmp_path: Path) -> None:
    file = mvtec(tmp_path) / "ground_truth" / "scratch" / "000_mask.png"
    mask(file, size=(4, 4))
    assert only_problem(tmp_path).what == "is 4 x 4, its picture 8 x 6"
    mask(file, value=0)
    assert "empty mask" in only_problem(tmp_path).what


def test_check_names_unreadable_files(tmp_path: Path) -> None:
    file = picture(mvtec(tmp_path) / "train" / "good" / "000.png", (64, 64))
    file.write_bytes(file.read_bytes()[:200])
    assert only_problem(tmp_path).file == file
    picture(file)
    truth = tmp_path / "nut" / "ground_truth" / "scratch" / "000_mask.png"
    truth.write_text("no picture")
    assert only_problem(tmp_path).file == truth


def test_check_names_the_same_picture_in_two_splits(tmp_path: Path) -> None:
    folder = mvtec(tmp_path)
    copy = folder / "test" / "good" / "001.png"
    copy.write_bytes((folder / "train" / "good" / "000.png").read_bytes())
    problem = only_problem(tmp_path)
    assert problem.file == copy
    assert "nut/train/good/000.png" in problem.what


def test_check_names_mixed_modes(tmp_path: Path) -> None:
    file = mvtec(tmp_path) / "train" / "good" / "000.png"
    Image.new("L", SIZE, 77).save(file)
    problem = only_problem(tmp_path)
    assert problem.file == file
    assert "1 grey and 4 colour" in problem.what


def test_check_names_a_category_that_cannot_train(tmp_path: Path) -> None:
    folder = mvtec(tmp_path)
    for file in (folder / "train" / "good").iterdir():
        file.unlink()
    assert "no good training pictures" in only_problem(tmp_path).what


def test_reading_imports_no_torch() -> None:
    code = "import sys, wildsight.anomaly.data, wildsight.anomaly.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shared_data(shared: Path) -> None:
    data = read("mvtec-ad", shared / "data" / "anomaly")
    assert data.categories == ("juice_bottle", "magnetic_tile", "pcb", "road")
    assert len(data.normal) == len(data.train) == 856
    assert data.protocol["counts"] == {"train_good": 856, "test_good": 248, "test_defect": 734}
    assert all(s.masks for s in data.test if s.label)
    assert check(data.select(["road"])) == []
