"""Groups of feature rows: what every clustering of this task is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from wildsight.discovery.metrics import matching
from wildsight.errors import ConfigError, DataError

Rows = NDArray[np.floating]
Ids = NDArray[np.int64]
BLOCK = 4096


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
    index = np.empty(len(rows), np.int64)
    distance = np.empty(len(rows), np.float64)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        scores = rows[part] @ centres.T
        scores -= half
        best = scores.argmax(1)
        index[part] = best
        distance[part] = squares[part] - 2.0 * scores[np.arange(len(best)), best]
    return index, np.maximum(distance, 0.0, out=distance)


def means(rows: Rows, groups: Ids, count: int, block: int = 1 << 16) -> tuple[Rows, Ids]:
    """Mean of the rows of each group [K, d] (zero for an empty one) and the group sizes [K]."""
    sums = np.zeros((count, rows.shape[1]), np.float64)
    for start in range(0, len(rows), block):
        part = groups[start : start + block]
        ones = csr_matrix((np.ones(len(part), rows.dtype), (part, np.arange(len(part)))), (count, len(part)))
        sums += ones @ rows[start : start + block]
    sizes = np.bincount(groups, minlength=count)
    return (sums / np.maximum(sizes, 1)[:, None]).astype(rows.dtype), sizes


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


def known_first(clustering: Clustering, labels: Ids) -> Clustering:
    """The same grouping, numbered so that group ``i`` is the known class that it matches best.

    Args:
        clustering: groups in any order, as many as there are known classes or more.
        labels: [N] known class of labelled rows, -1 for the others.
    """
    held, k = labels >= 0, len(clustering.centres)
    if not held.any():
        return clustering
    counts = np.bincount(clustering.groups[held] * k + labels[held], minlength=k * k).reshape(k, k)
    matched = matching(counts)[: int(labels.max()) + 1]
    order = np.concatenate([matched, np.setdiff1d(np.arange(k), matched)])
    place = np.empty(k, np.int64)
    place[order] = np.arange(k)
    return Clustering(
        place[clustering.groups], clustering.centres[order], clustering.inertia, clustering.iterations
    )
