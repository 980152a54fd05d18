"""How many classes there are: a score per K, its curve, and the range that the score cannot tell apart.

Paper: Generalized Category Discovery (CVPR 2022) scores K by the accuracy of k-means on labelled pictures.
Equations: score(K) = agreement of k-means over all pictures with the known classes, on the labelled ones.
Differences [inferred]:
1. Agreement is the adjusted Rand index, which minds a class merged with others as much as a class split up;
   accuracy hardly minds the first, so it underestimates. ``score="accuracy"`` is the reference's; with
   ``hidden=0.2, silhouette=0.1`` the labels of the other known classes are used while K is scored.
2. A coarse grid of K, then golden section, remembered; the reference runs Brent on a noisy step function.
3. Where nothing is labelled, score(K) is the silhouette of plain k-means, from K = 2 on.
4. Mean of ``seeds`` runs per K, and the range of K within one standard deviation of the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildsight.discovery.clustering import Ids, Rows
from wildsight.discovery.methods.sskmeans import SSKMeans, ss_kmeans
from wildsight.discovery.metrics import contingency, matching, shares
from wildsight.errors import ConfigError, DataError
from wildsight.training.progress import Meter

GOLDEN = (5**0.5 - 1) / 2
TRIED = 20
"""About how many K an estimate tries."""
SAMPLE = 2000
"""Rows whose silhouette is taken where nothing is labelled."""
HIGHEST = 30
"""Largest K tried where nothing is labelled and no range is given."""


@dataclass(frozen=True)
class EstimateConfig:
    """Settings of the estimate.

    Attributes:
        score: ``rand`` or ``accuracy``.
        hidden: share of the known classes that are hidden to score K, in (0, 1]; 1 uses no label.
        silhouette: weight of the simplified silhouette.
        grid: log-spaced values of K tried first.
        seeds: runs per K.
        rows: unlabelled rows used at most; more are sampled.
        kmeans: settings of each run.
    """

    score: str = "rand"
    hidden: float = 1.0
    silhouette: float = 0.0
    grid: int = 8
    seeds: int = 3
    rows: int = 10_000
    kmeans: SSKMeans = field(default_factory=lambda: SSKMeans(n_init=1, max_iter=30))

    def __post_init__(self) -> None:
        if self.score not in ("rand", "accuracy") or not 0 < self.hidden <= 1 or self.seeds < 1:
            raise ConfigError(
                f"score={self.score!r}, hidden={self.hidden}",
                hint="give rand or accuracy, a share in (0, 1] and one seed or more",
            )


@dataclass(frozen=True)
class Estimate:
    """A number of classes and how it was chosen.

    Attributes:
        k: the number of classes with the best score.
        low, high: the range of tried K whose mean is within one standard deviation of the best.
        curve: K -> (mean score, standard deviation), in order of K.
    """

    k: int
    low: int
    high: int
    curve: dict[int, tuple[float, float]]


def simplified_silhouette(rows: Rows, centres: Rows) -> float:
    """Mean of (b - a) / max(a, b), a and b the distances to the nearest and second nearest centre.

    Args:
        rows: [N, d].
        centres: [K, d], K >= 2.
    """
    squares = (rows**2).sum(1)[:, None] - 2.0 * rows @ centres.T + (centres**2).sum(1)
    near = np.sqrt(np.maximum(np.partition(squares, 1, axis=1)[:, :2], 0.0))
    return float(((near[:, 1] - near[:, 0]) / np.maximum(near[:, 1], 1e-12)).mean())


def estimate_k(
    rows: Rows,
    labels: Ids,
    *,
    low: int | None = None,
    high: int | None = None,
    config: EstimateConfig | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Estimate:
    """Estimate the number of classes.

    Args:
        rows: [N, d] unit features.
        labels: [N] known class of labelled rows, -1 for the others.
        low: smallest K tried; default the number of known classes, 2 without any.
        high: largest K tried; default three times the known classes and 10 more (`HIGHEST` without any), at
            most what the rows allow.
        config: settings.
        seed: of the hidden classes and of k-means.
        progress: called with 1 after each K.

    Raises:
        DataError: a single labelled class: nothing can be hidden.
        ConfigError: an empty range, or ``high`` above what the pictures allow.
    """
    config, free = config or EstimateConfig(), int((labels < 0).sum())
    rows, labels = _sampled(np.asarray(rows, np.float32), labels, config.rows, seed)
    known = int(labels.max()) + 1  # 0 where nothing is labelled
    if known == 1:
        raise DataError("one labelled class", hint="label two or more, or none, or give k")
    if high is not None and high > known + free:
        what = f"k up to {high} with {known} known classes and {free} unlabelled pictures"
        raise ConfigError(what, hint=f"give at most {known + free}")
    low = max(low or known, known or 2)
    most = len(labels) - 1 if not known else known + int((labels < 0).sum())
    high = min(high or (3 * known + 10 if known else HIGHEST), most)
    if low > high:
        raise ConfigError(f"k from {low} to {high} is empty", hint=f"there are {known} known classes")
    scored: dict[int, list[float]] = {}

    def value(k: int) -> float:
        if k not in scored:
            scored[k] = [_score(rows, labels, k, known, config, seed + s) for s in range(config.seeds)]
            if progress:
                progress(1)
        return float(np.mean(scored[k]))

    _search(value, low, high, config.grid)
    return _summary(scored)


def estimated(
    rows: Rows, labels: Ids, low: int | None, high: int | None, seed: int, progress: bool
) -> Estimate:
    """`estimate_k` with its defaults, its progress shown where that is asked for."""
    with Meter("how many classes", TRIED, enabled=progress) as meter:
        return estimate_k(rows, labels, low=low, high=high, seed=seed, progress=meter.add)


def _summary(scored: dict[int, list[float]]) -> Estimate:
    curve = {k: (float(np.mean(v)), float(np.std(v))) for k, v in sorted(scored.items())}
    best = max(curve, key=lambda k: (curve[k][0], -k))
    floor = curve[best][0] - curve[best][1]
    near = [k for k in curve if curve[k][0] >= floor]
    return Estimate(best, min(near), max(near), curve)


def _search(value: Callable[[int], float], low: int, high: int, count: int) -> None:
    """A log-spaced grid, then golden section between the neighbours of its best."""
    grid = sorted({round(k) for k in np.geomspace(low, high, count)})
    best = max(grid, key=value)
    at = grid.index(best)
    a, b = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    while b - a > 2:
        left, right = round(b - GOLDEN * (b - a)), round(a + GOLDEN * (b - a))
        if left >= right:
            break
        a, b = (a, right) if value(left) >= value(right) else (left, b)
    for k in range(a, b + 1):
        value(k)


def _sampled(rows: Rows, labels: Ids, limit: int, seed: int) -> tuple[Rows, Ids]:
    """At most ``limit`` labelled and ``limit`` unlabelled rows."""
    draw = np.random.default_rng(seed)
    parts: list[NDArray[np.int64]] = []
    for part in (np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)):
        parts.append(np.sort(draw.choice(part, limit, replace=False)) if len(part) > limit else part)
    chosen = np.concatenate(parts)
    held = labels[chosen]
    present = np.unique(held[held >= 0])
    number = {int(c): i for i, c in enumerate(present)}
    return rows[chosen], np.array([number.get(int(c), -1) for c in held], np.int64)


def _score(rows: Rows, labels: Ids, k: int, known: int, config: EstimateConfig, seed: int) -> float:
    """One run with some of the known classes hidden, or all."""
    if not known:
        return _parted(rows, ss_kmeans(rows, labels, k, config.kmeans, seed=seed).groups, seed)
    draw = np.random.default_rng(seed)
    count = min(max(1, round(config.hidden * known)), known)
    hidden = np.isin(labels, draw.choice(known, count, replace=False))
    kept = np.unique(labels[(labels >= 0) & ~hidden])
    number = np.full(known + 1, -1)
    number[kept] = np.arange(len(kept))
    given = np.where(hidden, -1, number[labels])
    clustering = ss_kmeans(rows, given, k, config.kmeans, seed=seed)
    agreement = _agreement(clustering.groups[hidden], labels[hidden], config.score)
    if k < 2 or not config.silhouette:
        return agreement
    return agreement + config.silhouette * simplified_silhouette(rows[given < 0], clustering.centres)


def _parted(rows: Rows, groups: Ids, seed: int) -> float:
    """The silhouette of a grouping on `SAMPLE` rows at most; a picture alone in its group counts 0."""
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(groups)) < len(groups):
        return 0.0
    return float(silhouette_score(rows, groups, sample_size=min(SAMPLE, len(rows)), random_state=seed))


def _agreement(groups: Ids, labels: Ids, kind: str) -> float:
    if kind == "rand":
        from sklearn.metrics import adjusted_rand_score

        return float(adjusted_rand_score(labels, groups))
    counts = contingency(groups, labels)
    return shares(counts, matching(counts), len(counts))["all"]
