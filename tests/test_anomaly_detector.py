"""The detector end to end on small real networks and small folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resuming import check_states, copied
from wildsight.anomaly import AnomalyDetector
from wildsight.anomaly.features import NeckConfig
from wildsight.anomaly.methods import METHODS
from wildsight.anomaly.methods.ras import RAS
from wildsight.anomaly.threshold import conformal_threshold
from wildsight.cli import main
from wildsight.errors import CheckpointError, ConfigError, DataError

NECK = NeckConfig(image_size=128, strides=(4, 8, 16))
SMALL = {"d": 32, "heads": 2, "ffn": 32, "encoder_layers": 1, "kernel": 3}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real ResNet with random weights, saved to a folder."""
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16], depths=[1, 1, 1], layer_type="basic")
    folder = tmp_path_factory.mktemp("network")
    ResNetModel(config).save_pretrained(folder)
    return folder


def stripes(seed: int, spot: bool) -> tuple[Image.Image, Image.Image]:
    draw = np.random.default_rng(seed)
    rows = np.sin(np.arange(128) / 4 + draw.uniform(0, 6))[:, None].repeat(128, 1)
    picture = np.clip(128 + 60 * rows + draw.normal(0, 4, (128, 128)), 0, 255).astype(np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    if spot:
        y, x = draw.integers(20, 90, 2)
        mask[y : y + 20, x : x + 20] = 255
        picture[mask > 0] = 255
    return Image.fromarray(picture).convert("RGB"), Image.fromarray(mask)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories in the MVTec layout; one unreadable training picture."""
    root = tmp_path_factory.mktemp("products")
    for number, name in enumerate(("one", "two")):
        for part, count, spot in (("train/good", 24, False), ("test/good", 6, False), ("test/spot", 6, True)):
            target = root / name / part
            target.mkdir(parents=True)
            for i in range(count):
                picture, mask = stripes(1000 * number + 100 * len(part) + i, spot)
                picture.save(target / f"{i:03d}.png")
                if spot:
                    truth = root / name / "ground_truth" / "spot"
                    truth.mkdir(parents=True, exist_ok=True)
                    mask.save(truth / f"{i:03d}_mask.png")
    (root / "one" / "train" / "good" / "broken.png").write_text("no picture")
    return root


@pytest.mark.parametrize("method", ["ras", "uniad", "patchcore", "padim"])
def test_fit_evaluate_save_load(method: str, network: Path, folder: Path, tmp_path: Path) -> None:
    trained = method in ("ras", "uniad")
    detector = AnomalyDetector(method, str(network), hyper=SMALL if trained else None, neck=NECK)
    training = {"epochs": 20, "lr": 2e-3} if trained else {}
    detector.fit(folder, progress=False, **training)
    assert detector.fitted_on["good"] + detector.fitted_on["held_out"] == 48
    mean = detector.evaluate(folder).rows[-1]
    limit = 0.8 if method == "uniad" else 0.9  # its dropout learns slower in sixty steps
    assert mean["category"] == "mean" and mean["image_auroc"] > limit and mean["pixel_auroc"] > 0.8
    detector.save_pretrained(tmp_path / "c")
    loaded = AnomalyDetector.from_pretrained(tmp_path / "c")
    file = folder / "one" / "test" / "spot" / "000.png"
    before, after = detector.predict(file)[0], loaded.predict([Image.open(file)])[0]
    assert np.array_equal(before.map, after.map) and before.score == after.score
    assert before.to_dict()["anomalous"] is bool(before.score > before.threshold)
    with pytest.raises(ConfigError, match="one, two"):
        loaded.predict(file, category="three")


def test_a_batch_scores_as_its_pictures_do(network: Path, folder: Path) -> None:
    detector = AnomalyDetector("ras", str(network), hyper=SMALL, neck=NECK)
    detector.fit(folder, progress=False, epochs=1)
    files = sorted((folder / "two" / "test" / "good").iterdir())
    together = [r.score for r in detector.predict(files)]
    apart = [detector.predict(f)[0].score for f in files]
    assert np.allclose(together, apart, rtol=1e-5)


def test_same_seed_same_detector_and_resume(network: Path, folder: Path, tmp_path: Path) -> None:
    def weights(epochs: int, run: Path | None) -> dict[str, torch.Tensor]:
        detector = AnomalyDetector("ras", str(network), hyper=SMALL, neck=NECK)
        detector.fit(folder, progress=False, epochs=epochs, folder=run)
        assert detector.head is not None
        return dict(detector.head.state_dict())

    first, second = weights(2, tmp_path / "a"), weights(2, None)
    again = weights(2, tmp_path / "a")
    for name, value in first.items():
        assert torch.equal(value, second[name]) and torch.equal(value, again[name])
    with pytest.raises(CheckpointError, match="epochs=2"):
        weights(3, tmp_path / "a")


def test_other_backbone_is_refused(network: Path, folder: Path, tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetModel

    detector = AnomalyDetector("padim", str(network), neck=NECK).fit(folder, progress=False)
    detector.save_pretrained(tmp_path / "c")
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16], depths=[1, 1, 1], layer_type="basic")
    torch.manual_seed(1)
    ResNetModel(config).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="other weights"):
        AnomalyDetector.from_pretrained(tmp_path / "c", backbone=str(tmp_path / "other"))


def test_a_category_of_which_nothing_was_held_out_takes_the_global_limit(network: Path, folder: Path) -> None:
    detector = AnomalyDetector("padim", str(network), neck=NECK, calibration=0.02, folds=1).fit(
        folder, progress=False
    )
    assert detector.fitted_on["held_out"] == 1
    assert set(detector.thresholds) == {"", "one", "two"}
    assert detector.threshold("one") == detector.threshold("two") == detector.threshold()
    assert detector.predict(np.zeros((40, 50), np.uint8), category="two")[0].threshold > 0


def test_the_threshold_keeps_its_rate() -> None:
    draw = np.random.default_rng(0)
    above = []
    for _ in range(400):
        limit = conformal_threshold(draw.normal(size=99).tolist(), 0.1)
        above.append((draw.normal(size=50) > limit.value).mean())
    assert abs(np.mean(above) - 0.1) < 0.01
    with pytest.raises(DataError):
        conformal_threshold([], 0.1)
    with pytest.raises(ConfigError):
        conformal_threshold([1.0], 0.0)


def test_wrong_settings(network: Path) -> None:
    for wrong in ({"method": "nosuch"}, {"backbone": "nano-nosuch"}, {"nosuch": 1}):
        with pytest.raises(ConfigError):
            AnomalyDetector(**{"backbone": str(network), **wrong})
    with pytest.raises(ConfigError, match="not fitted"):
        AnomalyDetector("ras", str(network)).predict(np.zeros((8, 8)))


def test_command(network: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fit, predict and evaluate as a user would; the exit code tells whether anything is anomalous."""

    def run(*words: str) -> int:
        try:
            main(list(words))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    fitted = tmp_path / "fit"
    common = ["--backbone", str(network), "--image-size", "128", "--method", "padim"]
    assert run("anomaly", "fit", str(folder), "--out", str(fitted), *common) == 0
    left = json.loads((fitted / "scores.json").read_text())
    assert left["thresholds"][0]["held_out"] > 0 and "broken.png" in left["not_read"][0]
    assert "not read:" in capsys.readouterr().out and "broken.png" in (fitted / "report.html").read_text()
    model, out = str(fitted / "checkpoint"), tmp_path / "out"
    pictures = str(folder / "one" / "test" / "spot")
    assert run("anomaly", "predict", model, pictures, "--out", str(out)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum("ANOMALOUS" in line for line in lines) >= 1 and len(list((out / "overlays").iterdir())) == 6
    assert len(json.loads((out / "scores.json").read_text())["pictures"]) == 6
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("data:image", "") and "<img" in page
    broken = str(folder / "one" / "train" / "good" / "broken.png")
    assert run("anomaly", "predict", model, broken, "--out", str(out)) == 2
    assert "not read" in capsys.readouterr().out
    assert run("anomaly", "evaluate", model, f"mvtec-ad:{folder}", "--out", str(tmp_path / "e")) == 0
    assert run("anomaly", "evaluate", model, str(tmp_path / "nowhere")) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["padim", "patchcore"])
def test_a_large_picture_in_tiles(method: str, network: Path, folder: Path) -> None:
    """A defect in a picture of six tiles is where it is; a picture of one tile is seen as before."""
    detector = AnomalyDetector(method, str(network), neck=NECK).fit(folder, progress=False)
    good, spot = (stripes(7, False)[0] for _ in range(2))
    large = Image.new("RGB", (3 * 128, 2 * 128))
    for x in range(3):
        for y in range(2):
            large.paste(good, (128 * x, 128 * y))
    spot = large.copy()
    spot.paste((255, 255, 255), (300, 60, 320, 80))
    clean, found = detector.predict([large, spot], tile=128)
    assert found.map.shape == (256, 384) and found.score > clean.score
    y, x = np.unravel_index(found.map.argmax(), found.map.shape)
    assert abs(x - 310) < 30 and abs(y - 70) < 30
    whole, one = detector.predict(good)[0], detector.predict(good, tile=128)[0]
    assert np.allclose(one.map, whole.map, rtol=1e-4) and one.score == pytest.approx(whole.score, rel=1e-4)


@pytest.mark.parametrize("method", ["ras", "uniad", "padim"])
def test_a_checkpoint_of_another_grid(method: str) -> None:
    hyper = {"d": 16, "heads": 2, "ffn": 16, "kernel": 3} if method != "padim" else {}
    made = METHODS.create(method, hyper).on(6, (10, 14), 0)
    head = made.head()
    if method == "padim":
        head.fit(torch.randn(5, 6, 10, 14))
    tensors = dict(head.state_dict())
    assert made.restore(tensors) is not head
    with pytest.raises(CheckpointError, match="10x14 tokens, these pictures give 8x8"):
        made.on(6, (8, 8), 0).restore(tensors)


def test_the_exported_program_is_bit_for_bit_the_head() -> None:
    """For any batch; the graph that ONNX is made from."""
    torch.manual_seed(0)
    head = RAS(d=16, heads=2, ffn=16, kernel=3).on(6, (8, 8), 0).head().eval().fold()
    shapes = {"f": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(head, (torch.randn(2, 6, 8, 8),), dynamic_shapes=shapes).module()
    for batch in (1, 2, 5):
        f = torch.randn(batch, 6, 8, 8)
        assert torch.equal(program(f), head(f))


def test_the_state_of_another_fit_is_refused(network: Path, folder: Path, tmp_path: Path) -> None:
    def fit(source: Path, select: str = "last", **options: object) -> AnomalyDetector:
        settings = {"neck": NECK, "hyper": SMALL, **options}
        detector = AnomalyDetector(settings.pop("method", "ras"), str(network), **settings)  # type: ignore[arg-type]
        return detector.fit(source, folder=tmp_path / "train", select=select, progress=False, epochs=1)

    sources = {
        "": folder,
        "moved": copied(folder, tmp_path / "moved"),
        "pictures": copied(folder, tmp_path / "other", "train/good/0*.png"),
    }
    others = {
        "noise_ratio=": {"hyper": {**SMALL, "noise_ratio": 0.25}},
        "neck.smooth=3, not 1": {"neck": NeckConfig(128, NECK.strides, smooth=1)},
        "select=last, not test": {"select": "test"},
    }
    check_states(fit, tmp_path / "train", sources, others)
    again = fit(folder, false_alarm_rate=0.2)  # a limit is set after the training
    assert again.history is not None and again.history.resumed_from == again.history.steps
