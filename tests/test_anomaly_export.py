"""The detector's graph: its resize against Pillow, its scores against the detector, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wildsight.anomaly import AnomalyDetector
from wildsight.anomaly.export import export_detector
from wildsight.anomaly.features import NeckConfig
from wildsight.cli import main
from wildsight.errors import ConfigError
from wildsight.export import pillow_resize

pytest.importorskip("onnxruntime")
NECK = NeckConfig(image_size=64, strides=(4, 8))
SMALL = {"d": 16, "heads": 2, "ffn": 16, "encoder_layers": 1, "decoder_steps": 1, "kernel": 3}


def pixels(seed: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("width", "height"), [(100, 300), (64, 64), (501, 37), (30, 20)])
def test_resize_is_pillows(width: int, height: int) -> None:
    array = pixels(0, width, height)
    expected = np.asarray(Image.fromarray(array).resize((64, 48), Image.Resampling.BILINEAR), np.float32)
    found = pillow_resize(torch.from_numpy(array)[None], (48, 64))[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 0.03


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnomalyDetector, Path]:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("export")
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(root / "network")
    good = root / "data" / "part" / "train" / "good"
    good.mkdir(parents=True)
    for i in range(12):
        Image.fromarray(pixels(i, 80, 70)).save(good / f"{i}.png")
    return AnomalyDetector("ras", str(root / "network"), hyper=SMALL, neck=NECK), root


@pytest.mark.slow
def test_graph_scores_as_the_detector_does(fitted: tuple[AnomalyDetector, Path], tmp_path: Path) -> None:
    detector, root = fitted
    with pytest.raises(ConfigError, match="not fitted"):
        export_detector(detector, tmp_path / "none", [Image.new("RGB", (9, 9))])
    detector.fit(f"mvtec-ad:{root / 'data'}", epochs=1, progress=False)
    with pytest.raises(ConfigError, match="no picture"):
        export_detector(detector, tmp_path / "none", [])
    pictures = [Image.fromarray(pixels(50 + i, 60 + 30 * i, 90)) for i in range(3)]
    done = export_detector(detector, tmp_path / "graph", pictures)
    assert done.score_difference < 1e-3 and done.report.samples == 4
    beside = json.loads((tmp_path / "graph" / "detector.json").read_text())
    assert beside["thresholds"][""]["value"] == detector.threshold().value
    assert beside["inputs"]["pixels"]["shape"] == ["batch", "height", "width", 3]
    assert len(done.lines()) == 2


@pytest.mark.slow
def test_command(
    fitted: tuple[AnomalyDetector, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector, root = fitted
    detector.fit(f"mvtec-ad:{root / 'data'}", epochs=1, progress=False)
    detector.save_pretrained(tmp_path / "model")
    words = ["anomaly", "export", str(tmp_path / "model"), "--out", str(tmp_path / "graph")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--sample", str(root / "data" / "part" / "train" / "good"), "--tolerance", "1e-12"])
    assert end.value.code == 2 and "more than 1e-12" in capsys.readouterr().err
    assert list((tmp_path / "graph").iterdir()) == []
