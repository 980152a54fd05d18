"""The field's scores: the published fixture, brute force, invariants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wildsight.discovery.metrics import contingency, doubt_scores, fixed_matching, matching, score, shares
from wildsight.errors import DataError

Y = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
P = np.array([0, 0, 1, 1, 1, 1, 3, 3, 2, 2, 2, 2])


def random_ids(seed: int, n: int = 60, k: int = 6) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    true = draw.integers(0, k, n)
    return np.where(draw.random(n) < 0.4, draw.integers(0, k, n), (true + 2) % k), true


def test_the_published_fixture() -> None:
    found = matching(contingency(P, Y))
    assert found.tolist() == [0, 1, 3, 2]
    row = score(P, Y, 2)
    assert [round(row[k], 4) for k in ("all", "old", "new")] == [0.8333] * 3
    assert round(row["fixed_old"], 4) == 0.8333


def test_contingency_equals_a_loop() -> None:
    pred, true = random_ids(0)
    table = np.zeros((6, 6), int)
    for p, t in zip(pred, true, strict=True):
        table[p, t] += 1
    assert (contingency(pred, true) == table).all()


@pytest.mark.parametrize("seed", range(4))
def test_v2_is_the_brute_force_maximum_and_bounds_the_others(seed: int) -> None:
    pred, true = random_ids(seed)
    best = max(
        np.mean([p == order[t] for p, t in zip(pred, true, strict=True)])
        for order in itertools.permutations(range(6))
    )
    row = score(pred, true, 3)
    assert row["all"] == pytest.approx(best)
    assert row["fixed_all"] <= row["all"] + 1e-12
    assert row["v1_old"] >= row["old"] - 1e-12 and row["v1_new"] >= row["new"] - 1e-12
    assert row["all"] >= np.mean(pred == true)


def test_v2_ignores_the_numbering_of_groups_and_the_fixed_form_does_not() -> None:
    pred, true = random_ids(5)
    order = np.array([3, 1, 5, 0, 2, 4])
    one, two = score(pred, true, 3), score(order[pred], true, 3)
    assert one["all"] == two["all"] and one["old"] == pytest.approx(two["old"])
    assert one["fixed_all"] != two["fixed_all"]


def test_more_and_fewer_groups_than_classes() -> None:
    true = np.repeat([0, 1, 2], 4)
    many = score(np.arange(12), true, 1)
    assert many["all"] == pytest.approx(3 / 12)
    few = score(np.repeat([0, 1, 1], 4), true, 1)
    assert few["all"] == pytest.approx(8 / 12)
    counts = contingency(np.arange(12), true)
    assert fixed_matching(counts, 1)[0] == 0 and shares(counts, matching(counts), 1)["old"] == 0.25


def test_class_mean_and_empty_parts() -> None:
    true = np.array([0] * 9 + [1])
    pred = np.array([0] * 10)
    row = score(pred, true, 2)
    assert row["mean_all"] == pytest.approx(0.5) and row["all"] == pytest.approx(0.9)
    assert np.isnan(row["new"]) and np.isnan(row["v1_new"]) and row["v1_all"] == pytest.approx(0.9)


def test_doubt() -> None:
    sure = np.array([True, False, True, True])
    row = doubt_scores(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), sure, 2)
    assert row == {"sure": 0.75, "sure_fixed_all": 1.0}
    assert np.isnan(doubt_scores(P, Y, np.zeros(12, bool), 2)["sure_fixed_all"])


def test_bad_ids() -> None:
    for pred, true in ((P[:3], Y), (P[:0], Y[:0]), (P - 1, Y)):
        with pytest.raises(DataError):
            score(pred, true, 2)
