"""Semi-supervised k-means: labelled pictures hold their class's centre, the rest finds its own.

Paper: Generalized Category Discovery (CVPR 2022, arXiv 2201.02609), its assignment step.
Equations: centres of the known classes start at the labelled means; further ones by k-means++ over the
unlabelled rows, D^2 relative to the centres there are; labelled rows never move; centres are means over
both; the run with the lowest total inertia is kept.
Differences:
1. An empty group is given the farthest unlabelled row (the reference's centre becomes NaN).
2. Distances by matrix products in blocks of rows; the reference broadcasts rows x K x d floats.
3. k-means++ draws from at most ``seed_rows`` rows. ``seed_rows=0`` draws from all.
4. ``trials`` candidates per new centre, the best taken, as scikit-learn does. ``trials=1`` is the paper's.
5. ``free_starts`` further runs start at the centres of k-means without labels, numbered so that the known
   classes come first; the lowest inertia of both kinds of start is kept. ``free_starts=0`` is the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildsight.discovery.clustering import Clustering, Ids, Rows, check_rows, known_first, means, nearest
from wildsight.discovery.methods import METHODS, ClusteringMethod, Step
from wildsight.errors import ConfigError


@METHODS.register("sskmeans")
@dataclass(frozen=True)
class SSKMeans(ClusteringMethod):
    """Semi-supervised k-means with its hyper-parameters."""

    title = "semi-supervised k-means"

    n_init: int = 10
    """Runs, the best kept, >= 1."""
    max_iter: int = 100
    """Updates of the centres per run, >= 1."""
    tol: float = 1e-4
    """A run stops when (sum of the centres' moves)^2 is below it."""
    trials: int = 0
    """k-means++ candidates per new centre; 0 is 2 + log K."""
    seed_rows: int = 20_000
    """Rows that k-means++ draws from at most; 0 is all."""
    free_starts: int = 1
    """Runs that start at k-means without labels, >= 0."""

    def __post_init__(self) -> None:
        if self.free_starts < 0:
            raise ConfigError(f"free_starts={self.free_starts}", hint="give at least 0")
        for name in ("n_init", "max_iter"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}", hint="give at least 1")

    @property
    def runs(self) -> int:
        """How often `group` calls ``progress``."""
        return self.n_init + self.free_starts

    def group(
        self, rows: Rows, labels: Ids, k: int, *, seed: int = 0, progress: Step | None = None
    ) -> Clustering:
        """`ss_kmeans`."""
        return ss_kmeans(rows, labels, k, self, seed=seed, progress=progress)


def plus_plus(rows: Rows, centres: Rows, count: int, draw: np.random.Generator, trials: int = 1) -> Rows:
    """Further centres by k-means++: each drawn with probability D^2 relative to those there are.

    Args:
        rows: [N, d] candidates.
        centres: [K0, d] already there; may be empty.
        count: how many to add.
        draw: random numbers.
        trials: candidates per centre, the one that lowers the total most is taken.

    Returns:
        [count, d].
    """
    squares = np.einsum("nd,nd->n", rows, rows)
    closest = nearest(rows, centres)[1] if len(centres) else np.full(len(rows), np.inf)
    chosen: list[Rows] = []
    for _ in range(count):
        flat = not np.isfinite(closest[0]) or closest.sum() <= 0
        weights = np.ones(len(rows)) if flat else closest
        candidates = np.searchsorted(np.cumsum(weights), draw.random(trials) * weights.sum())
        picked = rows[np.minimum(candidates, len(rows) - 1)]
        apart = np.maximum(squares[:, None] - 2.0 * rows @ picked.T + (picked**2).sum(1), 0.0)
        total = np.minimum(closest[:, None], apart)
        best = int(total.sum(0).argmin())
        closest = total[:, best]
        chosen.append(picked[best])
    return np.stack(chosen) if chosen else np.empty((0, rows.shape[1]), rows.dtype)


def ss_kmeans(
    rows: Rows,
    labels: Ids,
    k: int,
    config: SSKMeans | None = None,
    *,
    seed: int = 0,
    progress: Step | None = None,
) -> Clustering:
    """Group rows into ``k`` groups, the known classes first.

    Args:
        rows: [N, d] features, usually unit rows.
        labels: [N] class of labelled rows (0 .. known - 1), -1 for the others.
        k: number of groups.
        config: settings.
        seed: of k-means++.
        progress: called with 1 after each run.

    Raises:
        ConfigError: ``k`` below the known classes or above the rows there are.
        DataError: NaN, or rows that are all the same.
    """
    config = config or SSKMeans()
    rows = np.ascontiguousarray(rows, dtype=rows.dtype if rows.dtype == np.float64 else np.float32)
    known = check_rows(rows, labels, k)
    held = labels >= 0
    start = means(rows[held], labels[held], known)[0] if known else rows[:0]
    open_groups = k > known
    found = [
        _run(rows, labels, start, k, config, (seed, run), progress)
        for run in range(config.n_init if open_groups else 1)
    ]
    for run in range(config.free_starts if known and open_groups else 0):
        free = _run(rows, np.full(len(rows), -1), rows[:0], k, config, (seed, config.n_init + run), None)
        found.append(_lloyd(rows, labels, known_first(free, labels).centres, config))
        if progress:
            progress(1)
    return min(found, key=lambda c: c.inertia)


def _run(
    rows: Rows,
    labels: Ids,
    start: Rows,
    k: int,
    config: SSKMeans,
    seed: tuple[int, int],
    progress: Step | None,
) -> Clustering:
    """One run: the start, k-means++ over the unlabelled rows for the rest, then updates until they rest."""
    draw = np.random.default_rng(seed)
    pool = _pool(rows, labels < 0, config.seed_rows, draw)
    trials = config.trials or 2 + int(np.log(max(k, 1)))
    centres = np.concatenate([start, plus_plus(pool, start, k - len(start), draw, trials)])
    clustering = _lloyd(rows, labels, centres, config)
    if progress:
        progress(1)
    return clustering


def _pool(rows: Rows, free: NDArray[np.bool_], limit: int, draw: np.random.Generator) -> Rows:
    """The unlabelled rows that k-means++ draws from."""
    index = np.flatnonzero(free)
    if limit and len(index) > limit:
        index = np.sort(draw.choice(index, limit, replace=False))
    return rows[index]


def _lloyd(rows: Rows, labels: Ids, centres: Rows, config: SSKMeans) -> Clustering:
    """Assign and update until the centres rest."""
    held = labels >= 0
    squares = np.einsum("nd,nd->n", rows, rows)
    iterations = 0
    while iterations < config.max_iter:
        iterations += 1
        groups, distance = nearest(rows, centres, squares=squares)
        groups[held] = labels[held]
        fresh, sizes = means(rows, groups, len(centres))
        _reseed(fresh, sizes, rows, np.where(held, -1.0, distance))
        moved = float(np.sqrt(((fresh - centres) ** 2).sum(1)).sum()) ** 2
        centres = fresh
        if moved < config.tol:
            break
    groups, distance = nearest(rows, centres, squares=squares)
    groups[held] = labels[held]
    gap = rows[held] - centres[labels[held]]
    distance[held] = np.einsum("nd,nd->n", gap, gap)
    return Clustering(groups, centres.astype(np.float32), float(distance.sum()), iterations)


def _reseed(centres: Rows, sizes: Ids, rows: Rows, distance: NDArray[np.float64]) -> None:
    """Give each empty group the farthest unlabelled row, in place."""
    for group in np.flatnonzero(sizes == 0):
        far = int(distance.argmax())
        if distance[far] < 0:
            return
        centres[group] = rows[far]
        distance[far] = -1.0
