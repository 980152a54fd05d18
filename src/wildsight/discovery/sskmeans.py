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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from wildsight.errors import ConfigError, DataError

Rows = NDArray[np.floating]
Ids = NDArray[np.int64]
BLOCK = 4096


@dataclass(frozen=True)
class SSKMeansConfig:
    """Settings of semi-supervised k-means.

    Attributes:
        n_init: runs, the best kept.
        max_iter: updates of the centres per run.
        tol: a run stops when (sum of the centres' moves)^2 is below it.
        trials: k-means++ candidates per new centre; 0 is 2 + log K.
        seed_rows: rows that k-means++ draws from at most; 0 is all.
    """

    n_init: int = 10
    max_iter: int = 100
    tol: float = 1e-4
    trials: int = 0
    seed_rows: int = 20_000

    def __post_init__(self) -> None:
        for name in ("n_init", "max_iter"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}", hint="give at least 1")


@dataclass(frozen=True)
class Clustering:
    """A grouping of rows.

    Attributes:
        groups: [N] int64 group ids; the known classes come first.
        centres: [K, d] float32.
        inertia: sum of squared distances to the own centre.
        iterations: updates of the centres in the kept run.
    """

    groups: Ids
    centres: NDArray[np.float32]
    inertia: float
    iterations: int


def nearest(
    rows: Rows, centres: Rows, block: int = BLOCK, squares: Rows | None = None
) -> tuple[Ids, NDArray[np.float64]]:
    """Nearest centre of each row and the squared distance to it, in blocks of rows.

    Args:
        rows: [N, d].
        centres: [K, d].
        block: rows per matrix product; changes nothing but memory.
        squares: [N] squared lengths of the rows, where they are known already.
    """
    if squares is None:
        squares = np.einsum("nd,nd->n", rows, rows)
    half = 0.5 * np.einsum("kd,kd->k", centres, centres)
    found = np.empty(len(rows), np.int64)
    distance = np.empty(len(rows), np.float64)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        scores = rows[part] @ centres.T
        scores -= half
        best = scores.argmax(1)
        found[part] = best
        distance[part] = squares[part] - 2.0 * scores[np.arange(len(best)), best]
    return found, np.maximum(distance, 0.0, out=distance)


def means(rows: Rows, groups: Ids, count: int, block: int = 1 << 16) -> tuple[Rows, Ids]:
    """Mean of the rows of each group [K, d] (zero for an empty one) and the group sizes [K]."""
    sums = np.zeros((count, rows.shape[1]), np.float64)
    for start in range(0, len(rows), block):
        part = groups[start : start + block]
        ones = csr_matrix((np.ones(len(part), rows.dtype), (part, np.arange(len(part)))), (count, len(part)))
        sums += ones @ rows[start : start + block]
    sizes = np.bincount(groups, minlength=count)
    return (sums / np.maximum(sizes, 1)[:, None]).astype(rows.dtype), sizes


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
    config: SSKMeansConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
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
    config = config or SSKMeansConfig()
    rows = np.ascontiguousarray(rows, dtype=rows.dtype if rows.dtype == np.float64 else np.float32)
    known = check_rows(rows, labels, k)
    held = labels >= 0
    start = means(rows[held], labels[held], known)[0] if known else rows[:0]
    runs = config.n_init if k > known else 1
    best: Clustering | None = None
    for run in range(runs):
        draw = np.random.default_rng([seed, run])
        pool = _pool(rows, ~held, config.seed_rows, draw)
        trials = config.trials or 2 + int(np.log(max(k, 1)))
        centres = np.concatenate([start, plus_plus(pool, start, k - known, draw, trials)])
        found = _lloyd(rows, labels, centres, config)
        if best is None or found.inertia < best.inertia:
            best = found
        if progress:
            progress(1)
    if best is None:
        raise ConfigError("no run was made", hint="give n_init of at least 1")
    return best


def check_rows(rows: Rows, labels: Ids, k: int) -> int:
    """The number of known classes, once everything that makes a grouping impossible is ruled out."""
    known = int(labels.max()) + 1 if len(labels) else 0
    free = int((labels < 0).sum())
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(1).sum())
        raise DataError(
            f"{bad} feature rows hold NaN or infinity", hint="check the backbone and the pictures"
        )
    if known and len(np.unique(labels[labels >= 0])) != known:
        raise DataError("a known class has no labelled picture", hint="number the classes without gaps")
    if k < max(known, 1):
        raise ConfigError(f"k={k} is below the {known} known classes", hint=f"give at least {max(known, 1)}")
    if k - known > free:
        raise ConfigError(
            f"k={k} asks for {k - known} new groups of {free} unlabelled pictures",
            hint=f"give at most {known + free}",
        )
    if len(rows) > 1 and k > 1 and np.ptp(rows, axis=0).max() <= 1e-6:
        raise DataError("all pictures look the same to the backbone", hint="check the folder")
    return known


def _pool(rows: Rows, free: NDArray[np.bool_], limit: int, draw: np.random.Generator) -> Rows:
    """The unlabelled rows that k-means++ draws from."""
    index = np.flatnonzero(free)
    if limit and len(index) > limit:
        index = np.sort(draw.choice(index, limit, replace=False))
    return rows[index]


def _lloyd(rows: Rows, labels: Ids, centres: Rows, config: SSKMeansConfig) -> Clustering:
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
