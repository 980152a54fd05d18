"""K-means that sees no label: the lower bound. Known names are matched afterwards, from labelled pictures.

Paper: Lloyd (1982) with k-means++ (Arthur and Vassilvitskii, 2007).
Equations: as `sskmeans` with no labelled row. Groups are then numbered so that known classes come first:
the Hungarian matching of groups to known classes over the labelled pictures alone.
Scikit-learn's KMeans from the same start gives the same groups (tested). From starts of its own it is as good
and as fast (`benchmarks/discovery_speed.py kmeans`), so the loop of `sskmeans` serves both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wildsight.discovery.metrics import matching
from wildsight.discovery.sskmeans import Clustering, Ids, Rows, SSKMeansConfig, ss_kmeans

KMeansConfig = SSKMeansConfig


def kmeans(
    rows: Rows,
    labels: Ids,
    k: int,
    config: SSKMeansConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Clustering:
    """Group all rows without their labels, then name the groups of the known classes.

    Args and errors as `ss_kmeans`.
    """
    found = ss_kmeans(rows, np.full(len(rows), -1), k, config, seed=seed, progress=progress)
    return known_first(found, labels)


def known_first(found: Clustering, labels: Ids) -> Clustering:
    """The same grouping, numbered so that group ``i`` is the known class that it matches best.

    Args:
        found: groups in any order, as many as there are known classes or more.
        labels: [N] known class of labelled rows, -1 for the others.
    """
    held, k = labels >= 0, len(found.centres)
    if not held.any():
        return found
    counts = np.bincount(found.groups[held] * k + labels[held], minlength=k * k).reshape(k, k)
    own = matching(counts)[: int(labels.max()) + 1]
    order = np.concatenate([own, np.setdiff1d(np.arange(k), own)])
    place = np.empty(k, np.int64)
    place[order] = np.arange(k)
    return Clustering(place[found.groups], found.centres[order], found.inertia, found.iterations)
