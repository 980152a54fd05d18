"""Heat map to outline: boxes from the map, masks from the boxes, nothing where the verdict is good."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation_models import base_of
from wildsight.anomaly import AnomalyDetector
from wildsight.anomaly.features import NeckConfig
from wildsight.anomaly.result import AnomalyResult
from wildsight.errors import ConfigError
from wildsight.segmentation import AnomalySegmenter
from wildsight.workflows.refine import refine, region_overlap, write_refined


def result(image: Path | None, score: float = 3.0) -> AnomalyResult:
    """Two hot spots on a 32 x 32 map; threshold 1."""
    heat = np.zeros((32, 32), np.float32)
    heat[4:9, 6:14], heat[20:26, 18:30], heat[30, 1] = 2.0, 3.0, 9.0
    return AnomalyResult(image, score, 1.0, score > 1.0, heat)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (96, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "part.png")
    return tmp_path / "part.png"


def test_one_mask_per_region_and_their_union(picture: Path) -> None:
    segmenter = AnomalySegmenter("zero-shot", base_of("SamModel"))
    refined = refine(result(picture), segmenter, padding=0.0)
    assert refined.boxes == ((36.0, 60.0, 60.0, 78.0), (12.0, 12.0, 28.0, 27.0))
    assert refined.mask.shape == refined.raw.shape == (96, 64)
    expected = segmenter.predict(picture, boxes=refined.boxes)[0].mask
    assert np.array_equal(refined.mask, expected)
    assert refined.raw[65, 45] and not refined.raw[0, 0]
    json.dumps(refined.to_dict())
    assert refined.figure() is not None


def test_a_good_verdict_draws_nothing(picture: Path) -> None:
    refined = refine(result(picture, score=0.5), AnomalySegmenter("zero-shot", base_of("SamModel")))
    assert not refined.anomalous and refined.boxes == ()
    assert not refined.mask.any() and not refined.raw.any()


def test_pixels_without_a_file(picture: Path) -> None:
    segmenter = AnomalySegmenter("zero-shot", base_of("SamModel"))
    given = refine(result(None), segmenter, Image.open(picture))
    assert given.image is None and len(given.boxes) == 2
    with pytest.raises(ConfigError, match="not known"):
        refine(result(None), segmenter)


def test_region_overlap_counts_each_region_once() -> None:
    truth, mask = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    truth[0:8, 0:8], truth[9, 9] = True, True
    mask[0:4, 0:8] = True
    assert region_overlap(truth, mask) == (0.25, 0.5)


def test_written_for_the_command(picture: Path, tmp_path: Path) -> None:
    from segmentation_models import sam

    sam().save_pretrained(tmp_path / "base")
    adapter = AnomalySegmenter("zero-shot", tmp_path / "base").save_pretrained(tmp_path / "adapter")
    page = write_refined([result(picture), result(picture, 0.5)], adapter, tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "outlines.json").read_text())
    assert [r["anomalous"] for r in rows] == [True, False]
    assert rows[1]["refined_area"] == 0
    assert page.name == "outlines.html" and len(list((tmp_path / "out" / "outlines").iterdir())) == 2


def test_the_command_refines_what_the_detector_finds(tmp_path: Path) -> None:
    import torch
    from transformers import ResNetConfig, ResNetModel

    from segmentation_models import sam
    from wildsight.cli import main

    torch.manual_seed(0)
    small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16], depths=[1, 1, 1], layer_type="basic")
    ResNetModel(small).save_pretrained(tmp_path / "network")
    sam().save_pretrained(tmp_path / "base")
    adapter = AnomalySegmenter("zero-shot", tmp_path / "base").save_pretrained(tmp_path / "adapter")
    for i in range(13):
        values = np.random.default_rng(i).normal(120, 4, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        where = tmp_path / "parts" / ("normal" if i < 12 else "abnormal")
        where.mkdir(parents=True, exist_ok=True)
        if i == 12:
            values[20:44, 16:40] = 255
        Image.fromarray(values).save(where / f"{i}.png")
    neck = NeckConfig(image_size=64, strides=(4, 8))
    detector = AnomalyDetector("padim", str(tmp_path / "network"), neck=neck).fit(
        tmp_path / "parts", progress=False
    )
    model = detector.save_pretrained(tmp_path / "detector")
    words = ["anomaly", "predict", str(model), str(tmp_path / "parts" / "abnormal")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--refine", str(adapter), "--out", str(tmp_path / "out")])
    assert end.value.code == 1
    row = json.loads((tmp_path / "out" / "outlines.json").read_text())[0]
    assert row["anomalous"] and row["boxes"] and (tmp_path / "out" / "outlines.html").is_file()
