"""Ranking metrics against slow loops, scikit-learn and golden values; codes against their identities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from wildsight.errors import ConfigError, DataError
from wildsight.retrieval.codes import hamming, train_codes
from wildsight.retrieval.metrics import (
    average_precision,
    cut_scores,
    ranked_relevance,
    score,
    scores_of_rankings,
    squared_distances,
)


def slow(r: list[int], k: int) -> dict[str, float]:
    """Every definition from one ranking, by loops."""
    total = sum(r)
    precision = [sum(r[: i + 1]) / (i + 1) for i in range(len(r))]
    best = [max(precision[i:]) for i in range(len(r))]
    inside = [max(precision[i:k]) for i in range(min(k, len(r)))]
    cut = r[:k]
    gained = sum(p for p, hit in zip(precision, cut, strict=False) if hit)
    return {
        "map_all": sum(p for p, hit in zip(precision, r, strict=True) if hit) / total,
        "map_all_voc": sum(p for p, hit in zip(best, r, strict=True) if hit) / total,
        "hits": gained / sum(cut) if sum(cut) else 0.0,
        "voc": sum(p for p, hit in zip(inside, cut, strict=True) if hit) / min(k, total),
        "mink_r": gained / min(k, total),
    }


def test_golden_ranking() -> None:
    hits = np.array([[1, 0, 1, 0, 0, 1, 1]], bool)
    scores = scores_of_rankings(hits)
    assert scores["map_all"][0] == pytest.approx(0.6845, abs=1e-4)
    assert scores["map_all_voc"][0] == pytest.approx(0.7024, abs=1e-4)
    cut = cut_scores(hits, 3)
    assert [round(float(cut[f"map_3_{n}"][0]), 4) for n in ("hits", "mink_r", "voc")] == [
        0.8333,
        0.5556,
        0.5556,
    ]


@pytest.mark.parametrize("seed", range(5))
def test_against_loops_and_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hits = rng.random((6, 40)) < 0.2
    hits[:, 7] = True
    scores, cut = scores_of_rankings(hits), cut_scores(hits, 10)
    for i, row in enumerate(hits):
        expected = slow(row.astype(int).tolist(), 10)
        assert scores["map_all"][i] == pytest.approx(expected["map_all"])
        assert scores["map_all_voc"][i] == pytest.approx(expected["map_all_voc"])
        for name in ("hits", "voc", "mink_r"):
            assert cut[f"map_10_{name}"][i] == pytest.approx(expected[name])
        assert scores["map_all"][i] == pytest.approx(average_precision_score(row, -np.arange(40)))


def test_ties_keep_the_order_of_the_gallery() -> None:
    distance = np.array([[1.0, 0.0, 1.0, 0.0]])
    relevant = np.array([[True, False, False, True]])
    assert ranked_relevance(distance, relevant).tolist() == [[False, True, True, False]]


def test_queries_without_a_relevant_photo_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(4, 3)), rng.normal(size=(9, 3))
    label = np.array([0, 1, 7, 1])
    found = score(query, gallery, label, np.arange(9) % 2)
    assert (found["queries"], found["skipped"]) == (3.0, 1.0)
    with pytest.raises(DataError, match="no query"):
        score(query, gallery, label + 10, np.arange(9) % 2)


def test_blocks_change_nothing_and_classes_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(20, 4)), rng.normal(size=(30, 4))
    labels = rng.integers(0, 3, 20), rng.integers(0, 3, 30)
    whole = score(query, gallery, *labels)
    monkeypatch.setattr("wildsight.retrieval.metrics.BLOCK", 3)
    assert score(query, gallery, *labels) == pytest.approx(whole)
    per_query = []
    for q, c in zip(query, labels[0], strict=True):
        hits = ranked_relevance(squared_distances(q[None], gallery), (labels[1] == c)[None])
        total, count = average_precision(hits)
        per_query.append(float(total[0] / count[0]))
    by_class = [np.mean([p for p, c in zip(per_query, labels[0], strict=True) if c == k]) for k in range(3)]
    assert whole["map_all_by_class"] == pytest.approx(np.mean(by_class))


def test_codes_rotate_and_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 24)) @ rng.normal(size=(24, 24))
    codes = train_codes(x, 16)
    assert np.abs(codes.rotate @ codes.rotate.T - np.eye(16)).max() < 1e-8
    order = rng.permutation(200)
    again = train_codes(x[order], 16)
    assert np.array_equal(again.encode(x), codes.encode(x))


def test_rotation_never_lowers_the_objective() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(150, 16)) * np.linspace(3, 0.2, 16)
    values = []
    for rounds in (0, 1, 5, 25):
        codes = train_codes(x, 8, rounds=rounds)
        v = (x - codes.mean) @ codes.project @ codes.rotate
        values.append(np.abs(v).sum())
    assert values == sorted(values)


def test_hamming_counts_bits() -> None:
    one, two = np.array([[0b10110000]], np.uint8), np.array([[0b00010000], [0b01001111]], np.uint8)
    assert hamming(one, two).tolist() == [[2.0, 8.0]]


@pytest.mark.parametrize("bits", [4, 12, 64])
def test_impossible_codes_are_named(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"codes of {bits} bits"):
        train_codes(np.zeros((100, 32)), bits)
