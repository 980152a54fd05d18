"""What a set of group scores says of each picture: its group, how sure that is, and what is known nearby."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildsight.discovery.clustering import Clustering, Ids, Rows

TEMPERATURES = np.geomspace(1e-3, 10.0, 60)
BLOCK = 8192


@dataclass(frozen=True)
class Verdict:
    """One entry per picture.

    Attributes:
        groups: [N] group ids.
        confidence: [N] probability of that group, in [0, 1].
        margin: [N] that probability less the best other one's, in [-1, 1].
        nearest_known: [N] the most probable known class.
    """

    groups: Ids
    confidence: NDArray[np.float64]
    margin: NDArray[np.float64]
    nearest_known: Ids


def group_names(known: Sequence[str], k: int) -> list[str]:
    """Names of ``k`` groups: the known classes, then ``new_000``, ``new_001``, ...

    A number whose name a known class holds already, case ignored, is passed over.

    >>> group_names(["fox", "new_000"], 4)
    ['fox', 'new_000', 'new_001', 'new_002']
    """
    held = {name.casefold() for name in known}
    free = (name for i in itertools.count() if (name := f"new_{i:03d}") not in held)
    return [*known, *itertools.islice(free, max(0, k - len(known)))]


def by_size(groups: Ids, known: int, k: int) -> Ids:
    """Old group id -> new one: known classes stay, new groups are numbered by falling size.

    Args:
        groups: [N] ids of the unlabelled pictures.
        known: number of known classes.
        k: number of groups.

    >>> by_size(np.array([1, 2, 2, 3, 3, 3]), 1, 4).tolist()
    [0, 3, 2, 1]
    """
    sizes = np.bincount(groups, minlength=k)[known:]
    place = np.arange(k)
    place[known + np.argsort(-sizes, kind="stable")] = np.arange(known, k)
    return place


def renumbered(clustering: Clustering, labels: Ids, known: int) -> Clustering:
    """A clustering with its new groups in order of size."""
    place = by_size(clustering.groups[labels < 0], known, len(clustering.centres))
    centres = np.empty_like(clustering.centres)
    centres[place] = clustering.centres
    return Clustering(place[clustering.groups], centres, clustering.inertia, clustering.iterations)


def squared_distances(rows: Rows, centres: Rows) -> NDArray[np.float64]:
    """[N, K] squared distances."""
    cross = rows @ centres.T
    squares = (rows**2).sum(1)[:, None] - 2.0 * cross + (centres**2).sum(1)
    return np.maximum(squares.astype(np.float64), 0.0)


def without_itself(squares: NDArray[np.float64], groups: Ids, sizes: Ids) -> NDArray[np.float64]:
    """Distances to centres that the row itself has no part in.

    A row's squared distance to its own group's mean grows by (n / (n - 1))^2 when the row is taken out of
    the mean; alone in its group it is infinitely far from it.
    """
    n = sizes[groups].astype(np.float64)
    factor = np.where(n > 1, (n / np.maximum(n - 1, 1)) ** 2, np.inf)
    adjusted = squares.copy()
    at = np.arange(len(groups))
    adjusted[at, groups] = np.where(n > 1, squares[at, groups] * np.where(n > 1, factor, 1.0), np.inf)
    return adjusted


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of probabilities; -inf is probability 0."""
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def fit_temperature(rows: Rows, labels: Ids, clustering: Clustering, limit: int = 5000) -> float:
    """The temperature of softmax(-distance^2 / T) that makes labelled pictures most likely.

    Each labelled picture is taken out of its class's mean first, so the answer is not flattered by it.

    Args:
        rows: [N, d].
        labels: [N] known class of labelled rows, -1 for the others.
        clustering: the clustering.
        limit: labelled rows used at most, evenly spread.

    Returns:
        T > 0; the middle of the range where no class has two labelled pictures.
    """
    sizes = np.bincount(clustering.groups, minlength=len(clustering.centres))
    held = np.flatnonzero((labels >= 0) & (sizes[clustering.groups] > 1))
    held = held[np.linspace(0, len(held) - 1, min(limit, len(held))).astype(int)] if len(held) else held
    if not len(held):
        return 0.1
    squares = without_itself(
        squared_distances(rows[held], clustering.centres), clustering.groups[held], sizes
    )
    at = np.arange(len(held))
    costs = [-np.log(softmax(-squares / t)[at, labels[held]] + 1e-12).mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(costs))])


def verdict(probabilities: NDArray[np.float64], groups: Ids | None, known: int) -> Verdict:
    """What probabilities [N, K] say; the most probable group where ``groups`` is None."""
    chosen = probabilities.argmax(1) if groups is None else groups
    at = np.arange(len(chosen))
    confidence = probabilities[at, chosen]
    others = probabilities.copy()
    others[at, chosen] = -1.0
    margin = confidence - np.maximum(others.max(1), 0.0)
    near = probabilities[:, : max(known, 1)].argmax(1)
    return Verdict(chosen.astype(np.int64), confidence, margin, near)


def judged(
    rows: Rows, centres: Rows, temperature: float, known: int, members: tuple[Ids, Ids] | None = None
) -> Verdict:
    """Verdicts on rows by their distances to the centres, in blocks.

    Args:
        rows: [N, d].
        centres: [K, d].
        temperature: of the softmax.
        known: number of known classes.
        members: (groups [N], group sizes [K]) of rows that took part in the centres: they are taken out of
            them, and keep their group. None for new rows.
    """
    parts = []
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        squares = squared_distances(rows[part], centres)
        groups = None
        if members is not None:
            groups = members[0][part]
            squares = without_itself(squares, groups, members[1])
        parts.append(verdict(softmax(-squares / temperature), groups, known))
    fields = zip(*((p.groups, p.confidence, p.margin, p.nearest_known) for p in parts), strict=True)
    return Verdict(*(np.concatenate(field) for field in fields))
