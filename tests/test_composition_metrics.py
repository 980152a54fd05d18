"""Metrics of the composition task against a slow, independent evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from composition_reference import top_of
from wildsight.composition.metrics import (
    best_bias,
    curve,
    exact_scores,
    field_scores,
    hits,
    query_recall,
    turning_points,
)

GOLDEN = np.array([[0.9, 0.1, 0.5, 0.2], [0.2, 0.6, 0.7, 0.1], [0.8, 0.1, 0.6, 0.2], [0.5, 0.1, 0.55, 0.3]])
SEEN = np.array([True, True, False, False])
TRUTH = np.arange(4)


def test_golden_example_in_both_protocols() -> None:
    top = top_of(GOLDEN, SEEN, TRUTH, SEEN[TRUTH])
    exact = exact_scores(top)
    assert exact == pytest.approx({"auc": 0.25, "hm": 0.5, "best_seen": 1.0, "best_unseen": 0.5})
    names = ("field_auc", "field_hm", "field_best_seen", "field_best_unseen")
    assert field_scores(top) == pytest.approx(dict(zip(names, (0.125, 0.0, 0.5, 0.5), strict=True)))


def _random(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many ties, some candidates not allowed."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (12, 7)) / 4.0
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    return scores, np.arange(7) < 4, rng.integers(0, 7, 12)


def _slow_hits(scores: np.ndarray, seen: np.ndarray, truth: np.ndarray, bias: float, k: int) -> list[bool]:
    """Sort the biased row: seen pairs before unseen ones at a tie, then the lower id."""
    found = []
    for row, gt in zip(scores, truth, strict=True):
        biased = [(-(s + (0 if seen[j] else bias)), not seen[j], j) for j, s in enumerate(row) if s > -np.inf]
        found.append(gt in [j for _, _, j in sorted(biased)[:k]])
    return found


@pytest.mark.parametrize("k", [1, 2, 3])
def test_hits_and_curve_match_the_slow_sweep(k: int) -> None:
    for seed in range(40):
        scores, seen, truth = _random(seed)
        top = top_of(scores, seen, truth, seen[truth])
        bias, s, u = curve(top, k)
        for b, have_s, have_u in zip(bias, s, u, strict=True):
            if not np.isfinite(b):
                continue
            slow = np.array(_slow_hits(scores, seen, truth, float(b), k))
            assert np.array_equal(hits(top, float(b), k), slow)
            is_seen = seen[truth]
            assert have_s == pytest.approx(slow[is_seen].sum() / max(1, is_seen.sum()))
            assert have_u == pytest.approx(slow[~is_seen].sum() / max(1, (~is_seen).sum()))
        assert (np.diff(s) <= 0).all() and (np.diff(u) >= 0).all()


def test_exact_auc_is_the_pair_count() -> None:
    for seed in range(200):
        scores, seen, truth = _random(seed)
        top = top_of(scores, seen, truth, seen[truth])
        until, beyond = turning_points(top)
        slow = sum((i > j) + 0.5 * (i == j) for i in until for j in beyond)
        total = seen[truth].sum() * (~seen[truth]).sum()
        assert exact_scores(top)["auc"] == pytest.approx(slow / total if total else 0.0)


def test_exact_ignores_the_scale_of_scores_and_field_does_not() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random((300, 20)), rng.integers(0, 20, 300)
    scores[np.arange(300), truth] += 0.3
    seen = np.arange(20) < 12
    plain = top_of(scores, seen, truth, seen[truth])
    small = top_of(scores * 1e-3 + 5.0, seen, truth, seen[truth])
    assert exact_scores(plain)["auc"] == pytest.approx(exact_scores(small)["auc"], abs=1e-9)
    assert abs(field_scores(plain)["field_auc"] - field_scores(small)["field_auc"]) > 0.002


def test_a_row_without_an_allowed_unseen_pair_is_wrong_when_unseen() -> None:
    scores = np.array([[1.0, -np.inf], [1.0, -np.inf]])
    seen = np.array([True, False])
    top = top_of(scores, seen, np.array([0, 1]), np.array([True, False]))
    assert exact_scores(top) == {"auc": 0.0, "hm": 0.0, "best_seen": 1.0, "best_unseen": 0.0}
    assert best_bias(top) == 0.0


def test_the_calibrated_bias_reaches_the_best_harmonic_mean() -> None:
    rng = np.random.default_rng(3)
    scores, truth = rng.random((400, 10)), rng.integers(0, 10, 400)
    scores[np.arange(400), truth] += 0.4
    seen = np.arange(10) < 6
    scores[:, seen] += 0.5
    top = top_of(scores, seen, truth, seen[truth])
    right = hits(top, best_bias(top))
    is_seen = seen[truth]
    s, u = right[is_seen].mean(), right[~is_seen].mean()
    assert 2 * s * u / (s + u) == pytest.approx(exact_scores(top)["hm"])


def test_recall_of_queries() -> None:
    """Query 0 finds its picture first, query 2 second."""
    scores = np.array([[0.9, 0.8], [0.1, 0.5], [0.3, 0.2]])
    truth, queries = np.array([0, 2, 1]), np.array([0, 2])
    assert query_recall(scores, queries, truth, 1) == 0.5
    assert query_recall(scores, queries, truth, 2) == 1.0
