"""Anomaly metrics against scikit-learn and against slow sweeps over every threshold."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from wildsight.anomaly import metrics
from wildsight.errors import ConfigError, DataError


def random_case(seed: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Maps [4, 12, 12] and masks with several regions; few ``levels`` make many ties."""
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 12, 12)) < 0.12
    masks[0] = False
    maps = rng.random(masks.shape) + 0.6 * masks
    if levels:
        maps = np.round(maps * levels) / levels
    return maps.astype(np.float32), masks


def slow_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Sweep all distinct thresholds, one region at a time, and integrate piece by piece."""
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        found, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[found == k] for k in range(1, count + 1)]
    negatives = maps[~masks]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        curve.append((np.mean(negatives >= threshold), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 <= x0 or x0 >= limit:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("levels", [None, 5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_pixel_figures_equal_scikit_learn(seed: int, levels: int | None) -> None:
    maps, masks = random_case(seed, levels)
    scores = metrics.score_category(maps.max((1, 2)), masks.any((1, 2)), maps, masks)
    truth, flat = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, flat)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert scores["pixel_auroc"] == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert scores["pixel_ap"] == pytest.approx(average_precision_score(truth, flat), abs=1e-12)
    assert scores["pixel_f1max"] == pytest.approx(f1.max(), abs=1e-9)
    assert scores["image_auroc"] == pytest.approx(roc_auc_score(masks.any((1, 2)), maps.max((1, 2))))


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [None, 4, 20])
def test_aupro_equals_the_sweep(levels: int | None, limit: float) -> None:
    maps, masks = random_case(7, levels)
    steps = metrics.pixel_steps(maps, masks)
    assert steps is not None
    assert metrics.aupro(steps, limit) == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-6)


def golden_masks() -> np.ndarray:
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[0, 2:5, 2:9] = True
    masks[1, 10:12, 10:12] = True
    masks[1, 0, 0] = True
    return masks


@pytest.mark.parametrize("exact_pixels", [0, 10**9])
@pytest.mark.parametrize(("kind", "expected"), [("perfect", 1.0), ("constant", 0.15), ("inverted", 0.0)])
def test_golden_values(kind: str, expected: float, exact_pixels: int) -> None:
    masks = golden_masks()
    maps = {"perfect": masks * 1.0, "constant": masks * 0.0 + 2, "inverted": 1.0 - masks}[kind]
    scores = metrics.score_category(
        np.array([1.0, 2.0, 0.0]),
        np.array([1, 1, 0]),
        maps.astype(np.float32),
        masks,
        exact_pixels=exact_pixels,
    )
    assert scores["aupro"] == pytest.approx(expected, abs=1e-9)
    assert scores["pixel_auroc"] == pytest.approx({"perfect": 1, "constant": 0.5, "inverted": 0}[kind])
    assert scores["image_auroc"] == scores["image_ap"] == scores["image_f1max"] == 1.0


def test_diagonal_neighbours_are_one_region() -> None:
    share, count = metrics.region_weights(np.eye(4, dtype=bool))
    assert count == 1
    np.testing.assert_allclose(share, 0.25)


def test_every_region_counts_the_same_in_aupro() -> None:
    masks = np.zeros((1, 20, 20), dtype=bool)
    masks[0, :10, :10] = True
    masks[0, 15, 15] = True
    maps = np.zeros((1, 20, 20), dtype=np.float32)
    maps[0, 15, 15] = 1
    steps = metrics.pixel_steps(maps, masks)
    assert steps is not None
    assert steps.coverage[0] == pytest.approx(0.5)


def test_histogram_is_within_its_stated_error() -> None:
    maps, masks = random_case(3)
    exact = metrics.pixel_steps(maps, masks)
    binned = metrics.pixel_steps(maps, masks, exact_pixels=0)
    assert exact is not None and binned is not None
    positive, negative = np.diff(binned.hits, prepend=0), binned.alarms - binned.alarms_before
    bound = 0.5 * np.sum(positive / binned.positives * negative / binned.negatives)
    assert abs(metrics.auroc(exact) - metrics.auroc(binned)) <= bound + 1e-12
    assert metrics.aupro(binned) == pytest.approx(metrics.aupro(exact), abs=1e-3)
    assert metrics.average_precision(binned) == pytest.approx(metrics.average_precision(exact), abs=1e-3)
    assert metrics.pixel_mode(10) == "exact"
    assert metrics.pixel_mode(metrics.EXACT_PIXELS + 1) == "histogram"


def test_figures_depend_on_the_order_of_scores_alone() -> None:
    maps, masks = random_case(5)
    image, labels = maps.max((1, 2)), masks.any((1, 2))
    plain = metrics.score_category(image, labels, maps, masks)
    stretched = metrics.score_category(image, labels, np.exp2(maps * 3), masks)
    assert plain == pytest.approx(stretched)


def test_inputs_are_left_as_they_were() -> None:
    maps, masks = random_case(6)
    kept = maps.copy()
    image = maps.max((1, 2))
    metrics.score_category(image, masks.any((1, 2)), maps, masks)
    np.testing.assert_array_equal(maps, kept)
    np.testing.assert_array_equal(image, kept.max((1, 2)))


def test_undefined_figures_are_none() -> None:
    maps, masks = random_case(1)
    good = metrics.score_category(np.ones(4), np.zeros(4), maps, np.zeros_like(masks))
    assert set(good) == set(metrics.KEYS)
    assert all(value is None for value in good.values())
    without = metrics.score_category(np.arange(4.0), np.array([0, 0, 1, 1]))
    assert without["image_auroc"] == 1.0
    assert without["aupro"] is None


def test_faults_are_named() -> None:
    maps, masks = random_case(1)
    labels = masks.any((1, 2))
    with pytest.raises(DataError, match="shape"):
        metrics.score_category(np.ones(3), labels)
    with pytest.raises(DataError, match="NaN"):
        metrics.score_category(np.ones(4), labels, np.full_like(maps, np.nan), masks)
    with pytest.raises(ConfigError, match="AUPRO"):
        metrics.score_category(np.ones(4), labels, maps, masks, fpr_limit=0)


def test_mean_is_over_categories_that_define_the_figure() -> None:
    mean = metrics.mean_over_categories(
        {"a": {"aupro": 0.2, "image_ap": None}, "b": {"aupro": 0.6, "image_ap": None}}
    )
    assert mean == {"aupro": pytest.approx(0.4), "image_ap": None}
