"""What a threshold rests on, and how it is moved without another fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wildsight.anomaly import AnomalyDetector
from wildsight.anomaly.crossfit import out_of_fold
from wildsight.anomaly.features import NeckConfig, features_of_images
from wildsight.anomaly.threshold import (
    by_category,
    conformal_threshold,
    limits_of,
    moved,
    needed,
    threshold_at,
)
from wildsight.cli import main
from wildsight.errors import CheckpointError, ConfigError

NECK = NeckConfig(image_size=64, strides=(4, 8))
GOOD, SPOTS = 20, 3


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    folder = tmp_path_factory.mktemp("network")
    ResNetModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("plates"), np.random.default_rng(0)
    for part, count in (("train/good", GOOD), ("test/good", 4), ("test/spot", SPOTS), ("test/line", SPOTS)):
        (root / part).mkdir(parents=True)
        for i in range(count):
            picture = draw.integers(100, 140, (64, 64, 3)).astype(np.uint8)
            if part.endswith("spot"):
                picture[20:34, 20:34] = 255
            if part.endswith("line"):
                picture[30:36] = 0
            Image.fromarray(picture).save(root / part / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def checkpoint(network: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    detector = AnomalyDetector("patchcore", str(network), neck=NECK, false_alarm_rate=0.1)
    return detector.fit(folder, progress=False).save_pretrained(tmp_path_factory.mktemp("fit") / "checkpoint")


def run(*words: str) -> object:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as done:
        main(list(words))
    return done.value.code


def test_what_a_rate_needs_is_where_it_is_first_given() -> None:
    for rate in (0.3, 0.05, 0.01, 0.005, 1 / 3):
        n = needed(rate)
        assert conformal_threshold([float(i) for i in range(n)], rate).rate == pytest.approx(rate)
        assert n == 1 or conformal_threshold([float(i) for i in range(n - 1)], rate).rate > rate


def test_a_limit_set_by_hand_has_the_rate_of_the_good_pictures_above_it() -> None:
    scores = np.random.default_rng(0).exponential(size=99).tolist()
    limit = conformal_threshold(scores, 0.1)
    assert threshold_at(limit.value, scores).rate == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="nan"):
        threshold_at(float("nan"), scores)


def test_moving_one_category_leaves_the_others() -> None:
    scores = by_category(["a", "b", "a", "b"], [1.0, 2.0, 3.0, float("nan")])
    assert scores == {"a": [1.0, 3.0], "b": [2.0]}
    limits = limits_of(scores, 0.4)
    after = moved(limits, scores, rate=0.4, value=9.0, category="a")
    assert after["a"].value == 9.0 and after["b"] == limits["b"] and after[""] == limits[""]
    assert moved(limits, scores, rate=0.4) == limits
    with pytest.raises(ConfigError, match="use one of a, b"):
        moved(limits, scores, rate=0.4, category="c")
    with pytest.raises(ConfigError, match="no scores"):
        moved(limits, {}, rate=0.4)


def test_each_picture_is_scored_by_a_fit_without_it() -> None:
    learn, seen = np.array([3, 5, 8, 13, 21, 34, 55]), []

    def mean_of_the_others(fold: int, rest: np.ndarray, left: np.ndarray) -> np.ndarray:
        assert not set(rest) & set(left) and set(rest) | set(left) == set(learn)
        seen.extend(left.tolist())
        return left - rest.mean()

    scores = out_of_fold(learn, 3, 0, mean_of_the_others)
    assert sorted(seen) == learn.tolist() and np.isfinite(scores).all()
    assert np.isnan(out_of_fold(learn, 1, 0, mean_of_the_others)).all()


@pytest.mark.parametrize("method", ["patchcore", "padim"])
def test_the_threshold_of_a_memory_rests_on_every_good_picture(
    method: str, network: Path, folder: Path
) -> None:
    detector = AnomalyDetector(method, str(network), neck=NECK, false_alarm_rate=0.05)
    detector.fit(folder, progress=False)
    limit = detector.threshold()
    assert limit.n == GOOD and limit.rate == pytest.approx(0.05)
    assert not any(r.anomalous for r in detector.predict(sorted((folder / "train/good").iterdir())))
    held = AnomalyDetector(method, str(network), neck=NECK, false_alarm_rate=0.05, folds=1)
    held.fit(folder, progress=False)
    assert held.threshold().n == 2 and held.threshold().rate == pytest.approx(1 / 3)
    picture = folder / "test/spot/0.png"
    assert held.predict(picture)[0].score == detector.predict(picture)[0].score
    assert any("0.05 was asked for and needs 19" in text for text in held.warnings())
    assert not detector.warnings()


def test_a_trained_method_is_fitted_once_a_fold(network: Path, folder: Path, tmp_path: Path) -> None:
    hyper = {"d": 8, "heads": 1, "ffn": 8, "encoder_layers": 1, "kernel": 3}
    detector = AnomalyDetector("ras", str(network), hyper=hyper, neck=NECK, folds=2)
    detector.fit(folder, folder=tmp_path, progress=False, epochs=1)
    assert detector.threshold().n == GOOD and (tmp_path / "fold-1").is_dir()
    plain = AnomalyDetector("ras", str(network), hyper=hyper, neck=NECK).fit(folder, progress=False, epochs=1)
    assert plain.threshold().n == 2 and plain.history is not None and detector.history is not None
    assert plain.history.curve("loss") == detector.history.curve("loss")


def test_set_threshold(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    detector = AnomalyDetector.from_pretrained(checkpoint)
    before = detector.threshold()
    detector.set_threshold(false_alarm_rate=0.5)
    assert detector.threshold().value < before.value and detector.threshold().rate == 0.5
    again = AnomalyDetector.from_pretrained(detector.save_pretrained(tmp_path / "c"))
    assert again.thresholds == detector.thresholds and again.settings.false_alarm_rate == 0.5
    assert again.set_threshold(value=1e9).predict(folder / "test/spot/0.png")[0].anomalous is False
    again.set_threshold(good=sorted((folder / "test/good").iterdir()), false_alarm_rate=0.2)
    scores = [r.score for r in again.predict(sorted((folder / "test/good").iterdir()))]
    assert again.threshold().value == pytest.approx(max(scores)) and again.threshold().n == 4
    with pytest.raises(ConfigError, match="give one of them"):
        again.set_threshold(value=1.0, false_alarm_rate=0.1)
    with pytest.raises(ConfigError, match="outside"):
        again.set_threshold(false_alarm_rate=5.0)


def test_a_checkpoint_from_before_has_no_scores_to_move_by(checkpoint: Path) -> None:
    detector = AnomalyDetector.from_pretrained(checkpoint)
    detector.good_scores = {}
    with pytest.raises(ConfigError, match="give good pictures, or the value itself"):
        detector.set_threshold(false_alarm_rate=0.1)
    assert detector.set_threshold(value=2.0).threshold().words(0.1).startswith("false-alarm rate unknown")


def test_the_command(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = AnomalyDetector.from_pretrained(checkpoint).save_pretrained(tmp_path / "c")
    assert run("anomaly", "threshold", str(copy)) == 0
    assert "0.1 at most, by 20 good pictures" in capsys.readouterr().out
    assert run("anomaly", "threshold", str(copy), "--false-alarm-rate", "0.01") == 0
    assert "0.01 was asked for and needs 99" in " ".join(capsys.readouterr().out.split())
    assert run("anomaly", "threshold", str(copy), "--value", "1e9") == 0
    picture, out = str(folder / "test/spot/0.png"), ["--out", str(tmp_path / "out")]
    assert run("anomaly", "predict", str(copy), picture, *out) == 0
    assert run("anomaly", "predict", str(copy), picture, *out, "--threshold", "0") == 1
    capsys.readouterr()
    assert run("anomaly", "threshold", str(copy), "--value", "nan") == 2
    assert "separates nothing" in capsys.readouterr().err


def test_an_evaluation_counts_verdicts(checkpoint: Path, folder: Path) -> None:
    detector = AnomalyDetector.from_pretrained(checkpoint)
    evaluation = detector.evaluate(folder, progress=False)
    scores, labels = evaluation.scores, np.array([s.label for s in evaluation.samples])
    above = scores > detector.threshold().value
    first, second = evaluation.summary()
    assert f"{above[labels == 0].sum()} false alarms among 4 good pictures" in first
    assert f"{above[labels == 1].sum()} of {2 * SPOTS} defects found" in first
    assert "line " in second and f"spot {SPOTS} of {SPOTS}" in second


def test_an_export_is_moved_by_the_same_command(checkpoint: Path, tmp_path: Path) -> None:
    from wildsight.anomaly.export import SETTINGS, _settings, move_exported

    detector = AnomalyDetector.from_pretrained(checkpoint)
    file = tmp_path / SETTINGS
    file.write_text(json.dumps({**_settings(detector), "inputs": ["pixels"]}))
    assert run("anomaly", "threshold", str(tmp_path), "--false-alarm-rate", "0.5") == 0
    facts = json.loads(file.read_text())
    assert facts["thresholds"][""]["value"] == detector.set_threshold(false_alarm_rate=0.5).threshold().value
    assert facts["inputs"] == ["pixels"] and facts["false_alarm_rate"] == 0.5
    file.write_text("{}")
    with pytest.raises(CheckpointError, match="no export"):
        move_exported(tmp_path)


def test_scores_of_the_fit_are_out_of_sample(network: Path, folder: Path) -> None:
    detector = AnomalyDetector("padim", str(network), neck=NECK, folds=GOOD).fit(folder, progress=False)
    pictures = [Image.open(f).convert("RGB") for f in sorted((folder / "train/good").iterdir())]
    features = features_of_images(detector.backbone, pictures, detector.settings.neck)
    inside = detector._scored(features)[0]
    assert np.median(detector.good_scores[folder.name]) > np.median(inside)
