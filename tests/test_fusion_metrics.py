"""Metrics against maintained libraries: scikit-learn, and stored values of PySODMetrics 1.6.2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, recall_score

from wildsight.errors import ConfigError
from wildsight.fusion.metrics import ConfusionMeter, class_scores
from wildsight.fusion.saliency import SaliencyMeter


def test_against_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    true, found = draw.integers(0, 5, (3, 9, 7)), draw.integers(0, 5, (3, 9, 7))
    meter = ConfusionMeter(5)
    for t, f in zip(true, found, strict=True):
        meter.update(f, t)
    assert np.array_equal(meter.counts, confusion_matrix(true.ravel(), found.ravel()))
    scores = meter.scores()
    for name, function in (("miou", jaccard_score), ("mf1", f1_score), ("macc", recall_score)):
        expected = function(true.ravel(), found.ravel(), average="macro")
        assert scores[name] == pytest.approx(expected, abs=1e-12)
    assert scores["acc"] == pytest.approx((true == found).mean())


def test_absent_classes_as_stated() -> None:
    meter = ConfusionMeter(4)
    meter.update(np.array([0, 1, 1, 2]), np.array([0, 1, 1, 255]))
    assert meter.scores("ignore")["miou"] == 1.0 and meter.scores("zero")["miou"] == 0.5
    assert np.isnan(class_scores(meter.counts)["iou"][2:]).all()


def test_counts_are_whole_and_order_free() -> None:
    meter = ConfusionMeter(2)
    meter.counts[0, 0] = 2**53
    meter.update(np.array([0]), np.array([0]))
    assert meter.counts[0, 0] == 2**53 + 1


@pytest.mark.parametrize("found", [np.array([0, 4]), np.array([0, -1]), np.array([0])])
def test_wrong_maps_are_named(found: np.ndarray) -> None:
    with pytest.raises(ConfigError):
        ConfusionMeter(3).update(found, np.array([0, 1]))


def golden(shared: Path) -> tuple[dict[str, np.ndarray], dict]:
    maps = dict(np.load(shared / "golden" / "sod_maps.npz"))
    return maps, json.loads((shared / "golden" / "sod_metrics.json").read_text())


NAMES = {"s": "Sm", "wf": "wF", "maxf": "maxF", "meanf": "meanF", "adpf": "adpF", "maxe": "maxE"}
NAMES |= {"meane": "meanE", "adpe": "adpE", "mae": "MAE"}


def test_saliency_against_stored_values(shared: Path) -> None:
    maps, stored = golden(shared)
    assert len(stored["per_image"]) > 30
    for row in stored["per_image"]:
        meter = SaliencyMeter()
        meter.update(maps[f"{row['gt']}/{row['pred']}/pred"], maps[f"{row['gt']}/gt"])
        found = meter.scores()
        for ours, theirs in NAMES.items():
            assert found[ours] == pytest.approx(row[theirs], abs=1e-9), (row["gt"], row["pred"], theirs)


def test_a_set_is_scored_by_its_mean_curve(shared: Path) -> None:
    maps, stored = golden(shared)
    meter = SaliencyMeter()
    for row in stored["per_image"]:
        meter.update(maps[f"{row['gt']}/{row['pred']}/pred"], maps[f"{row['gt']}/gt"])
    found = meter.scores()
    for ours, theirs in NAMES.items():
        assert found[ours] == pytest.approx(stored["dataset"][theirs], abs=1e-9), theirs


def test_saliency_extremes() -> None:
    mask = np.zeros((8, 10), np.uint8)
    mask[2:5, 3:7] = 255
    right, wrong, nothing = SaliencyMeter(), SaliencyMeter(), SaliencyMeter()
    right.update(mask, mask)
    wrong.update(255 - mask, mask)
    assert nothing.scores() == {}
    assert right.scores()["mae"] == 0.0 and wrong.scores()["mae"] == 1.0
    for name in set(NAMES) - {"mae"}:
        assert right.scores()[name] > wrong.scores()[name]
