"""K-means that sees no label: the lower bound. Known names are matched afterwards, from labelled pictures.

Paper: Lloyd (1982) with k-means++ (Arthur and Vassilvitskii, 2007).
Equations: as `sskmeans` with no labelled row. Groups are then numbered so that known classes come first:
the Hungarian matching of groups to known classes over the labelled pictures alone.
Scikit-learn's KMeans from the same start gives the same groups (tested). From starts of its own it is as good
and as fast (`benchmarks/discovery_speed.py kmeans`), so the loop of `sskmeans` serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wildsight.discovery.clustering import Clustering, Ids, Rows
from wildsight.discovery.methods import METHODS, Step
from wildsight.discovery.methods.sskmeans import SSKMeans, ss_kmeans
from wildsight.discovery.metrics import matching


@METHODS.register("kmeans")
@dataclass(frozen=True)
class KMeans(SSKMeans):
    """K-means without labels; hyper-parameters as `SSKMeans`."""

    title = "k-means"

    def group(
        self, rows: Rows, labels: Ids, k: int, *, seed: int = 0, progress: Step | None = None
    ) -> Clustering:
        """`kmeans`."""
        return kmeans(rows, labels, k, self, seed=seed, progress=progress)


def kmeans(
    rows: Rows,
    labels: Ids,
    k: int,
    config: SSKMeans | None = None,
    *,
    seed: int = 0,
    progress: Step | None = None,
) -> Clustering:
    """Group all rows without their labels, then name the groups of the known classes.

    Args and errors as `ss_kmeans`.
    """
    clustering = ss_kmeans(rows, np.full(len(rows), -1), k, config, seed=seed, progress=progress)
    return known_first(clustering, labels)


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
