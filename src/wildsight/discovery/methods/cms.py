"""A clustering peer in the manner of CMS: mean-shifted features, then a Ward tree.

Paper: Contrastive Mean-Shift Learning for GCD (CVPR 2024, arXiv 2404.09451), its inference.
Equations: z <- N((1 - alpha) z + alpha mean of the kappa nearest neighbours), repeated; Ward linkage on the
result, cut into K groups.
Differences [inferred]: 1. the features are frozen, the contrastive training is left out. 2. Labelled pictures
keep their class: groups are matched to known classes over labelled pictures, as in `kmeans`.
Ward's linkage holds all pairwise distances, so more than 8,192 pictures are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wildsight.discovery.clustering import Clustering, Ids, Rows, check_rows, known_first, means, nearest
from wildsight.discovery.methods import METHODS, ClusteringMethod, Step
from wildsight.errors import BudgetError, ConfigError

MAX_ROWS = 8192
"""The task's limit on matrices of N x N."""


@METHODS.register("cms")
@dataclass(frozen=True)
class CMS(ClusteringMethod):
    """Mean shift and Ward with their hyper-parameters."""

    title = "mean-shift and Ward"

    alpha: float = 0.5
    """Weight of the neighbours' mean, in [0, 1]."""
    kappa: int = 8
    """Neighbours, >= 1."""
    shifts: int = 3
    """Repetitions of the shift, >= 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or self.kappa < 1 or self.shifts < 0:
            raise ConfigError(
                f"alpha={self.alpha}, kappa={self.kappa}, shifts={self.shifts}",
                hint="give alpha in [0, 1], kappa of at least 1 and shifts of at least 0",
            )

    def group(
        self, rows: Rows, labels: Ids, k: int, *, seed: int = 0, progress: Step | None = None
    ) -> Clustering:
        """`cms`."""
        return cms(rows, labels, k, self, seed=seed, progress=progress)


def neighbours(rows: Rows, count: int, block: int = 1024) -> Ids:
    """[N, count] most similar other rows, in blocks: no N x N matrix."""
    count = min(count, len(rows) - 1)
    nearby = np.empty((len(rows), count), np.int64)
    for start in range(0, len(rows), block):
        scores = rows[start : start + block] @ rows.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        nearby[start : start + block] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return nearby


def mean_shift(rows: Rows, config: CMS) -> Rows:
    """Unit rows [N, d] moved towards their neighbours' mean."""
    for _ in range(config.shifts):
        near = neighbours(rows, config.kappa)
        centre = np.stack([rows[index].mean(0) for index in near])
        rows = (1 - config.alpha) * rows + config.alpha * centre
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def cms(
    rows: Rows,
    labels: Ids,
    k: int,
    config: CMS | None = None,
    *,
    seed: int = 0,  # noqa: ARG001  deterministic; every method takes one
    progress: Step | None = None,
) -> Clustering:
    """Group rows by mean shift and Ward. Args and errors as `ss_kmeans`.

    Raises:
        BudgetError: more than 8,192 rows.
    """
    from sklearn.cluster import AgglomerativeClustering

    if len(rows) > MAX_ROWS:
        raise BudgetError(f"{len(rows)} rows, Ward takes {MAX_ROWS}", hint="use method sskmeans")
    check_rows(rows, labels, k)
    shifted = mean_shift(np.asarray(rows, np.float32), config or CMS())
    groups = AgglomerativeClustering(n_clusters=k, linkage="ward").fit_predict(shifted).astype(np.int64)
    centres = means(np.asarray(rows, np.float32), groups, k)[0]
    inertia = float(nearest(rows, centres)[1].sum())
    if progress:
        progress(1)
    return known_first(Clustering(groups, centres.astype(np.float32), inertia, 0), labels)
