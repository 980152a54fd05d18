"""Semi-supervised k-means, its peers, symmetric factorisation, and the estimate of K."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from discovery_theorems import inertia_by_theorem, spectral_contrastive
from wildsight.discovery import snmf
from wildsight.discovery.clustering import means, nearest
from wildsight.discovery.estimate_k import EstimateConfig, estimate_k, simplified_silhouette
from wildsight.discovery.grouping import by_size, fit_temperature, judged, without_itself
from wildsight.discovery.methods.cms import CMS, cms, mean_shift
from wildsight.discovery.methods.kmeans import kmeans
from wildsight.discovery.methods.sskmeans import SSKMeans, plus_plus, ss_kmeans
from wildsight.discovery.whitening import SpaceConfig, fit_space
from wildsight.errors import BudgetError, ConfigError, DataError


def blobs(sizes: list[int], d: int = 8, seed: int = 0, spread: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around random directions, and their classes."""
    draw = np.random.default_rng(seed)
    centres = np.linalg.qr(draw.normal(size=(d, d)))[0][: len(sizes)]
    true = np.repeat(np.arange(len(sizes)), sizes)
    rows = centres[true] + spread * draw.normal(size=(len(true), d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), true


def half_labelled(true: np.ndarray, known: int) -> np.ndarray:
    labels = np.where(true < known, true, -1)
    labels[1::2] = -1
    return labels


def test_groups_are_found_and_labelled_rows_never_move() -> None:
    rows, true = blobs([20, 20, 30, 10])
    labels = half_labelled(true, 2)
    found = ss_kmeans(rows, labels, 4)
    assert adjusted_rand_score(true, found.groups) == 1.0
    assert (found.groups[labels >= 0] == labels[labels >= 0]).all()
    assert (found.groups[true == 0] == 0).all() and (found.groups[true == 1] == 1).all()


def test_a_wrong_label_holds_its_row() -> None:
    rows, true = blobs([20, 20])
    labels = half_labelled(true, 2)
    labels[0] = 1
    assert ss_kmeans(rows, labels, 2).groups[0] == 1


def test_inertia_never_rises() -> None:
    rows, true = blobs([30, 30, 30, 30, 30], spread=0.6)
    labels = half_labelled(true, 2)
    values = [
        ss_kmeans(rows, labels, 5, SSKMeans(n_init=1, max_iter=n, tol=0.0), seed=3).inertia
        for n in range(1, 9)
    ]
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(values))


def test_only_known_classes_is_nearest_mean_at_the_first_step() -> None:
    rows, true = blobs([15, 15], spread=0.4)
    labels = half_labelled(true, 2)
    found = ss_kmeans(rows, labels, 2, SSKMeans(max_iter=100))
    centres = means(rows, found.groups, 2)[0]
    expected = ((rows[:, None] - centres[None]) ** 2).sum(2).argmin(1)
    free = labels < 0
    assert (found.groups[free] == expected[free]).all()


def test_distances_do_not_depend_on_the_block_size() -> None:
    rows, _ = blobs([50, 50])
    slow = ((rows[:, None].astype(np.float64) - rows[None, :7]) ** 2).sum(2)
    for block in (1, 13, 4096):
        groups, distance = nearest(rows, rows[:7], block)
        assert (groups == slow.argmin(1)).all() and np.allclose(distance, slow.min(1), atol=1e-5)


def test_the_better_of_both_starts_is_kept() -> None:
    """As the equation reads: k-means of all rows, known classes first, then the rule with labels held."""
    gains = []
    for seed in range(6):
        rows, true = blobs([25] * 8, spread=0.45, seed=seed)
        labels = half_labelled(true, 4)
        config = SSKMeans(n_init=1)
        paper = ss_kmeans(rows, labels, 8, replace(config, free_starts=0), seed=seed)
        free = kmeans(rows, labels, 8, config, seed=seed + 100)
        both = ss_kmeans(rows, labels, 8, config, seed=seed)
        gains.append(paper.inertia - both.inertia)
        assert both.inertia >= 0.98 * free.inertia
        assert (both.groups[labels >= 0] == labels[labels >= 0]).all()
    assert min(gains) >= 0.0 and max(gains) > 0.1
    calls: list[int] = []
    ss_kmeans(rows, labels, 8, SSKMeans(n_init=2, free_starts=3), progress=calls.append)
    assert len(calls) == SSKMeans(n_init=2, free_starts=3).runs == 5 and kmeans(rows, labels, 8).groups.size
    with pytest.raises(ConfigError, match="free_starts"):
        SSKMeans(free_starts=-1)


def test_without_labels_it_is_scikit_learns_kmeans() -> None:
    rows, _ = blobs([40, 30, 30], spread=0.5)
    start = rows[[0, 50, 80]].astype(np.float64)
    theirs = KMeans(3, init=start, n_init=1, max_iter=200, tol=0.0).fit(rows.astype(np.float64))
    from wildsight.discovery.methods.sskmeans import _lloyd

    ours = _lloyd(rows.astype(np.float64), np.full(100, -1), start, SSKMeans(max_iter=200, tol=0.0))
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-9)
    assert (ours.groups == theirs.labels_).all()


def test_an_empty_group_is_given_the_farthest_row() -> None:
    from wildsight.discovery.methods.sskmeans import _lloyd

    rows = np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    start = np.array([[1.0, 0], [5.0, 5.0]])
    found = _lloyd(rows, np.full(4, -1), start, SSKMeans(max_iter=20))
    assert np.isfinite(found.centres).all() and len(set(found.groups.tolist())) == 2


def test_plus_plus_spreads() -> None:
    rows, true = blobs([50, 5, 5], spread=0.02)
    draw = np.random.default_rng(0)
    picked = plus_plus(rows, rows[:1], 2, draw, trials=5)
    owners = {int(true[int((rows @ p).argmax())]) for p in picked}
    assert owners == {1, 2}


def test_seeds_repeat_and_differ() -> None:
    rows, true = blobs([30] * 5, spread=0.7)
    labels = half_labelled(true, 2)
    one, two = (ss_kmeans(rows, labels, 5, SSKMeans(n_init=2), seed=1) for _ in range(2))
    assert (one.groups == two.groups).all() and one.inertia == two.inertia


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r, y: (r, y, 1), "below the 2 known"),
        (lambda r, y: (r, y, 99), "new groups of"),
        (lambda r, y: (np.full_like(r, np.nan), y, 3), "NaN"),
        (lambda r, y: (np.ones_like(r), y, 3), "look the same"),
        (lambda r, y: (r, np.where(y == 0, -1, y), 3), "no labelled picture"),
    ],
)
def test_impossible_groupings_are_refused(change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    rows, true = blobs([10, 10, 10])
    rows, labels, k = change(rows, half_labelled(true, 2))
    with pytest.raises((DataError, ConfigError), match=sentence):
        ss_kmeans(rows, labels, k)


@pytest.mark.parametrize("method", [kmeans, cms])
def test_peers_number_the_known_classes_first(method) -> None:  # type: ignore[no-untyped-def]
    rows, true = blobs([20, 20, 20])
    found = method(rows, half_labelled(true, 2), 3)
    assert (found.groups[true < 2] == true[true < 2]).all()
    assert np.allclose(found.centres, means(rows, found.groups, 3)[0], atol=1e-5)


def test_mean_shift_draws_groups_together_and_ward_has_a_limit() -> None:
    rows, true = blobs([30, 30], spread=0.5)
    shifted = mean_shift(rows, CMS(shifts=3))
    inside = [float((part[true == 0] @ part[true == 0].T).mean()) for part in (rows, shifted)]
    assert inside[1] > inside[0]
    assert np.allclose(mean_shift(rows, CMS(alpha=0.0)), rows, atol=1e-6)
    with pytest.raises(BudgetError):
        cms(np.zeros((8193, 2), np.float32), np.full(8193, -1), 2)


def partitions(n: int) -> Iterator[np.ndarray]:
    """Every partition of n rows, once: each row joins an earlier group or opens the next one."""
    stack = [(0,)]
    while stack:
        groups = stack.pop()
        if len(groups) == n:
            yield np.array(groups)
        else:
            stack += [(*groups, g) for g in range(max(groups) + 2)]


@pytest.mark.parametrize(("n", "count"), [(2, 2), (3, 5), (4, 15), (5, 52), (6, 203), (7, 877), (8, 4140)])
def test_theorem_1_over_every_partition(n: int, count: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gram, seen = rows @ rows.T, 0
    for groups in partitions(n):
        k = int(groups.max()) + 1
        centres = np.stack([rows[groups == g].mean(0) for g in range(k)])
        inertia = float(((rows - centres[groups]) ** 2).sum())
        assert abs(inertia_by_theorem(gram, groups, k) - inertia) < 1e-10
        seen += 1
    assert seen == count


def test_theorem_2() -> None:
    draw = np.random.default_rng(0)
    joint = draw.random((6, 6))
    joint = joint + joint.T
    joint /= joint.sum()
    p = joint.sum(1)
    f = draw.random((6, 3))
    normal = joint / np.sqrt(p[:, None] * p[None, :])
    h = np.sqrt(p)[:, None] * f
    left = float(((normal - h @ h.T) ** 2).sum())
    right = float((normal**2).sum()) + spectral_contrastive(joint, f)
    assert left == pytest.approx(right, abs=1e-12)


def test_the_solver_never_rises_and_finds_blocks() -> None:
    true = np.repeat([0, 1, 2], [5, 7, 9])
    graph = (true[:, None] == true[None, :]).astype(float)
    for seed in range(20):
        h = np.random.default_rng(seed).random((21, 3))
        values = []
        for _ in range(60):
            values.append(snmf.objective(graph, h))
            h = snmf.update(graph, h, 0.5)
        assert all(b <= a + 1e-9 for a, b in itertools.pairwise(values))
    h, value = snmf.solve(graph, 3, snmf.SNMFConfig(restarts=10))
    assert value < 1e-3 and adjusted_rand_score(true, h.argmax(1)) == 1.0


def test_cooccurrence_and_its_limit() -> None:
    rows = blobs([5, 5])[0].astype(np.float64)
    graph = snmf.cooccurrence(np.abs(rows))
    assert np.allclose(graph, graph.T) and np.linalg.eigvalsh(graph).max() == pytest.approx(1.0)
    with pytest.raises(BudgetError, match="8193"):
        snmf.need_dense(8193)
    found = snmf.diagnostics(np.eye(4), np.array([True, True, False, False]))
    assert found == {"negative": 0.0, "old_new": 0.0, "near_zero": 0.75, "rank": pytest.approx(4.0)}


def test_k_is_estimated() -> None:
    rows, true = blobs([25] * 8, d=16, spread=0.1)
    found = estimate_k(rows, half_labelled(true, 5), config=EstimateConfig(seeds=2))
    assert abs(found.k - 8) <= 1 and found.low <= found.k <= found.high
    assert list(found.curve) == sorted(found.curve) and min(found.curve) >= 5
    narrow = estimate_k(rows, half_labelled(true, 5), low=7, high=7)
    assert list(narrow.curve) == [7]
    with pytest.raises(DataError, match="labelled class"):
        estimate_k(rows, np.where(true == 0, 0, -1))
    with pytest.raises(ConfigError, match="k up to 5000 with 2 known classes"):
        estimate_k(rows, np.where(true < 2, true, -1), high=5000)


def test_simplified_silhouette() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert simplified_silhouette(rows, rows) == pytest.approx(1.0)
    assert simplified_silhouette(np.array([[0.0, 0.0]]), rows) == pytest.approx(0.0)


def test_confidence_takes_a_row_out_of_its_own_centre() -> None:
    rows, true = blobs([6, 1, 9], spread=0.3)
    rows64 = rows.astype(np.float64)
    centres = means(rows64, true, 3)[0]
    sizes = np.bincount(true)
    squares = ((rows64[:, None] - centres[None]) ** 2).sum(2)
    found = without_itself(squares, true, sizes)
    others = [i for i in range(6) if i != 2]
    assert found[2, 0] == pytest.approx(((rows64[2] - rows64[others].mean(0)) ** 2).sum())
    assert np.isinf(found[6, 1]) and found[6, 0] == pytest.approx(squares[6, 0])
    verdict = judged(rows64, centres, 0.1, 2, (true, sizes))
    assert verdict.confidence[6] == 0.0 and verdict.margin[6] < 0
    assert (verdict.groups == true).all() and verdict.nearest_known.max() <= 1


def test_the_temperature_fits_how_hard_the_classes_are() -> None:
    found = []
    for spread in (0.1, 0.8):
        rows, true = blobs([30, 30, 30], spread=spread)
        labels = half_labelled(true, 3)
        found.append(fit_temperature(rows, labels, ss_kmeans(rows, labels, 3)))
    assert found[0] < found[1]


def test_new_groups_are_numbered_by_size() -> None:
    assert by_size(np.array([0, 3, 3, 2, 2, 2]), 2, 4).tolist() == [0, 1, 2, 3]
    assert by_size(np.array([0, 3, 3, 2]), 2, 4).tolist() == [0, 1, 3, 2]


def test_the_space_evens_out_the_directions() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(300, 10)) * np.array([9, 5, 3, 2, 1, 1, 1, 1, 1, 1.0])
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    same = fit_space(rows, SpaceConfig(components=0))
    assert np.allclose(same(rows), rows, atol=1e-6)
    whole = fit_space(rows, SpaceConfig(components=4, whiten=1.0), block=7)
    cut = (rows - whole.mean) @ whole.basis
    assert np.allclose(np.cov(cut.T, bias=True), np.eye(4), atol=1e-2)
    turned = fit_space(rows, SpaceConfig(components=10, whiten=0.0))
    centred = rows - rows.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(turned(rows) @ turned(rows).T, centred @ centred.T, atol=1e-4)
    flat = np.repeat(rows[:2], 5, axis=0)
    assert fit_space(flat.astype(np.float32), SpaceConfig()).basis.shape == (10, 1)
    with pytest.raises(ConfigError):
        SpaceConfig(whiten=2.0)


def test_class_consistency_of_dimensions() -> None:
    features = np.array(
        [[1.0, 0.0, 0.5, 0.0], [1.0, 0.0, 0.5, 0.0], [0.0, 2.0, 0.5, 0.0], [0.0, 2.0, 0.5, 0.0]]
    )
    assert snmf.class_consistency(features, np.array([0, 0, 1, 1])) == pytest.approx((1 + 1 + 0.5) / 3)
    assert snmf.class_consistency(5 * features[:, ::-1], np.array([7, 7, 3, 3])) == pytest.approx(2.5 / 3)
    assert np.isnan(snmf.class_consistency(np.zeros((2, 2)), np.array([0, 1])))
