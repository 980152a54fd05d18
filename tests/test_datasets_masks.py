"""Which part of a mask is the defect, whatever its values, and every mask that cannot be told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.anomaly import data as anomaly
from wildsight.datasets.masks import GRADED, MaskRule, declared, defect_mask, read_mask
from wildsight.errors import DataError
from wildsight.fusion import data as fusion
from wildsight.segmentation import data as segmentation

TRUTH = np.zeros((6, 8), bool)
TRUTH[1:3, 2:5] = True


def grey(low: int, high: int, dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.where(TRUTH, high, low).astype(dtype))


def palette(background: tuple[int, int, int], mark: tuple[int, int, int], index: int = 1) -> Image.Image:
    picture = Image.fromarray(np.where(TRUTH, index, 1 - index).astype(np.uint8), mode="P")
    colours = [background, mark] if index == 1 else [mark, background]
    picture.putpalette([v for colour in colours for v in colour])
    return picture


def colour(background: tuple[int, ...], mark: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.where(TRUTH[..., None], mark, background).astype(np.uint8))


def photo_with_alpha() -> Image.Image:
    photo = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(np.dstack([photo, np.where(TRUTH, 255, 0).astype(np.uint8)]))


RIGHT = {
    "0/1": grey(0, 1),
    "1/2": grey(1, 2),
    "0/128": grey(0, 128),
    "0/255": grey(0, 255),
    "128/255": grey(128, 255),
    "bit": Image.fromarray(TRUTH),
    "16 bit": grey(0, 65535, np.uint16),
    "alpha": colour((255, 255, 255, 0), (255, 255, 255, 255)),
    "black on nothing": colour((0, 0, 0, 0), (0, 0, 0, 255)),
    "white on nothing": colour((0, 0, 0, 0), (255, 255, 255, 255)),
    "photo with alpha": photo_with_alpha(),
    "opaque": colour((0, 0, 0, 255), (9, 0, 0, 255)),
    "palette, white background": palette((255, 255, 255), (255, 0, 0)),
    "palette of VOC": palette((0, 0, 0), (128, 0, 0)),
    "palette, black second": palette((0, 0, 0), (255, 255, 255), index=0),
    "red on black": colour((0, 0, 0), (255, 0, 0)),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("rule", [MaskRule(), GRADED], ids=["two", "graded"])
def test_two_classes_are_told_apart_whatever_their_values(name: str, rule: MaskRule, tmp_path: Path) -> None:
    if rule.graded and name in ("alpha", "black on nothing", "photo with alpha"):
        pytest.skip("published sets draw in colour")
    RIGHT[name].save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", rule), TRUTH)


@pytest.mark.parametrize("ending", ["bmp", "tif", "gif", "webp"])
def test_lossless_formats(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"m.{ending}"
    grey(0, 255).save(file, **({"lossless": True} if ending == "webp" else {}))
    assert np.array_equal(read_mask(file), TRUTH)


WRONG = {
    "a mask with 3 values, not two": Image.fromarray(np.where(TRUTH, 255, np.eye(6, 8) * 9).astype(np.uint8)),
    "the one value 128": Image.new("L", (8, 6), 128),
    "neither of them black": colour((255, 255, 255), (255, 0, 0)),
    "marks its transparent part": colour((255, 255, 255, 0), (0, 0, 0, 255)),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_told_apart_is_named(what: str, tmp_path: Path) -> None:
    WRONG[what].save(tmp_path / "m.png")
    with pytest.raises(DataError, match=rf"m\.png.*{what}"):
        read_mask(tmp_path / "m.png")


def test_a_jpeg_mask_is_named_for_what_it_is(tmp_path: Path) -> None:
    Image.fromarray(np.kron(TRUTH, np.ones((3, 3))).astype(np.uint8) * 255).save(tmp_path / "m.jpg")
    for rule in (MaskRule(), GRADED):
        with pytest.raises(DataError, match=r"a JPEG mask with .* values"):
            read_mask(tmp_path / "m.jpg", rule)


def test_an_empty_mask_is_empty_and_graded_ones_count_above_zero(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "empty.png")
    assert not read_mask(tmp_path / "empty.png").any()
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).save(tmp_path / "kinds.png")
    assert read_mask(tmp_path / "kinds.png", GRADED).tolist() == [[False, True, True], [True, True, True]]


def test_an_inverted_mask_is_named_and_can_be_declared(tmp_path: Path) -> None:
    big = np.full((40, 40), 255, np.uint8)
    big[3:6, 3:6] = 0
    Image.fromarray(big).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"covers 99\.4% of its picture; .*inverted"):
        defect_mask([tmp_path / "m.png"])
    (tmp_path / "masks.json").write_text('\ufeff{"inverted": true}', encoding="utf-8")
    assert defect_mask([tmp_path / "m.png"], declared(tmp_path))[0].sum() == 9
    (tmp_path / "masks.json").write_text('{"inverted": false}')
    assert defect_mask([tmp_path / "m.png"], declared(tmp_path))[0].sum() == 1600 - 9
    (tmp_path / "masks.json").write_text('{"inverse": true}')
    with pytest.raises(DataError, match=r"masks\.json"):
        declared(tmp_path)


def test_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (16, 12), "red").save(tmp_path / "i.png")
    grey(0, 255).save(tmp_path / "m.png")
    assert defect_mask([tmp_path / "m.png"], image=tmp_path / "i.png", scaled=True)[0].shape == (6, 8)
    with pytest.raises(DataError, match="is 8 x 6, its picture 16 x 12"):
        defect_mask([tmp_path / "m.png"], image=tmp_path / "i.png")


def _both_layouts(root: Path, mask: Image.Image) -> None:
    """One folder that both tasks read: MVTec form."""
    rng = np.random.default_rng(0)
    places = [f"train/good/{i}.png" for i in range(3)] + ["test/good/0.png"]
    places += [f"test/dent/{i}.png" for i in range(2)]
    for place in places:
        file = root / "part" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).save(file)
    (root / "part/ground_truth/dent").mkdir(parents=True)
    for i in range(2):
        mask.save(root / f"part/ground_truth/dent/{i}_mask.png")


@pytest.mark.parametrize("source", ["{}", "mvtec-ad:{}"])
@pytest.mark.parametrize("name", ["1/2", "128/255", "palette, white background"])
def test_both_tasks_read_one_mask(name: str, source: str, tmp_path: Path) -> None:
    _both_layouts(tmp_path, RIGHT[name])
    text = source.format(tmp_path)
    one = next(s for s in anomaly.read_source(text).samples if s.label)
    other = segmentation.read_source(text).samples[0]
    assert np.array_equal(anomaly.read_mask(one, TRUTH.shape), TRUTH)
    assert np.array_equal(segmentation.read_mask(other), TRUTH)
    assert anomaly.check_source(text) == segmentation.check_source(text) == []


@pytest.mark.parametrize("what", WRONG)
def test_check_says_what_the_reader_says(what: str, tmp_path: Path) -> None:
    _both_layouts(tmp_path, WRONG[what])
    one = next(s for s in anomaly.read_source(tmp_path).samples if s.label)
    with pytest.raises(DataError) as scored:
        anomaly.read_mask(one, TRUTH.shape)
    with pytest.raises(DataError) as taught:
        segmentation.read_mask(segmentation.read_source(tmp_path).samples[0])
    for fault, found in (
        (scored.value, anomaly.check_source(tmp_path)),
        (taught.value, segmentation.check_source(tmp_path)),
    ):
        assert what in fault.what
        assert [fault.what] * 2 == [p.what for p in found]


def test_a_declaration_reaches_both_tasks(tmp_path: Path) -> None:
    big = Image.fromarray(np.where(np.eye(6, 8, dtype=bool) & TRUTH, 0, 255).astype(np.uint8))
    _both_layouts(tmp_path, big)
    assert len(anomaly.check_source(tmp_path)) == len(segmentation.check_source(tmp_path)) == 2
    (tmp_path / "masks.json").write_text(json.dumps({"inverted": True}))
    assert anomaly.check_source(tmp_path) == segmentation.check_source(tmp_path) == []
    assert segmentation.read_mask(segmentation.read_source(tmp_path).samples[0]).sum() == 1


def test_masks_that_were_read_as_all_defect(shared: Path) -> None:
    folder = shared / "cases/03_two_valued_masks_all_defect"
    for kind in ("alpha", "grey128", "onebased", "palwhite"):
        assert read_mask(folder / f"{kind}-exp1_num_108719.png").sum() == 104
    with pytest.raises(DataError, match="nverted"):
        defect_mask([folder / "inv-exp1_num_108719.png"])


def test_the_fusion_task_reads_the_same_mask(tmp_path: Path) -> None:
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)).save(
            tmp_path / name / "0.png"
        )
    (tmp_path / "masks").mkdir()
    for kind in ("1/2", "128/255", "palette, white background"):
        RIGHT[kind].save(tmp_path / "masks/0.png")
        data = fusion.read_source(tmp_path)
        assert np.array_equal(fusion.read_mask(data.found.samples[0], data.found) == 1, TRUTH)
