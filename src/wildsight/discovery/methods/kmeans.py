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

from wildsight.discovery.clustering import Clustering, Ids, Rows, known_first
from wildsight.discovery.methods import METHODS, Step
from wildsight.discovery.methods.sskmeans import SSKMeans, ss_kmeans


@METHODS.register("kmeans")
@dataclass(frozen=True)
class KMeans(SSKMeans):
    """K-means without labels; hyper-parameters as `SSKMeans`."""

    title = "k-means"

    free_starts: int = 0
    """None: every start is one without labels."""

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
