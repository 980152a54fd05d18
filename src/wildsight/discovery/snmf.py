"""Symmetric non-negative factorisation of the co-occurrence matrix, and the two identities behind NN-GCD.

Paper: NN-GCD (arXiv 2410.21807), section on the equivalence of k-means, SNMF and non-negative contrastive
learning; the two identities are written down and proved in the task's tests (`discovery_theorems`).
Equations: theorem 1, inertia(Y) = tr G - (|G|^2 + K)/2 + |G - Ht Ht^T|^2 / 2 for a partition Y with
Ht = Y (Y^T Y)^-1/2; theorem 2, |A - H H^T|^2 = |A|^2 + spectral contrastive loss, H_x = sqrt(p(x)) f(x).
The equivalence is one of optima in the clean case: it promises no better clustering than k-means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildsight.discovery.clustering import Ids
from wildsight.errors import BudgetError

Matrix = NDArray[np.float64]
MAX_DENSE = 8192
"""Largest N for which an N x N matrix is ever built."""


@dataclass(frozen=True)
class SNMFConfig:
    """Settings of the solver.

    Attributes:
        b: damping of the multiplicative update, in (0, 1/2]; 1 diverges.
        steps: updates per restart.
        restarts: random starts, the lowest objective kept; one start can stop at a local optimum.
        seed: of the starts.
    """

    b: float = 0.5
    steps: int = 300
    restarts: int = 10
    seed: int = 0


def need_dense(count: int) -> None:
    """Refuse an N x N matrix above `MAX_DENSE` rows.

    Raises:
        BudgetError: too many rows.
    """
    if count > MAX_DENSE:
        raise BudgetError(f"{count} rows need a {count} x {count} matrix", hint=f"sample {MAX_DENSE}")


def cooccurrence(features: Matrix) -> Matrix:
    """Normalised co-occurrence D^-1/2 A D^-1/2 of unit rows, A = F F^T, D = diag(|A| 1); at most 8,192 rows.

    Negative entries are kept: their share is a diagnostic. The degrees are of absolute values, so that the
    form is defined for features that are not quite non-negative.
    """
    need_dense(len(features))
    graph = features @ features.T
    scale = 1.0 / np.sqrt(np.maximum(np.abs(graph).sum(1), 1e-12))
    return graph * scale[:, None] * scale[None, :]


def objective(graph: Matrix, h: Matrix) -> float:
    """|A - H H^T|_F^2, without forming H H^T."""
    return float((graph**2).sum() - 2.0 * ((graph @ h) * h).sum() + ((h.T @ h) ** 2).sum())


def solve(graph: Matrix, k: int, config: SNMFConfig | None = None) -> tuple[Matrix, float]:
    """H >= 0 with the lowest |A - H H^T|^2 of several starts.

    H <- H (1 - b + b (A H) / (H H^T H)); the objective never rises for b <= 1/2.

    Args:
        graph: [N, N] symmetric, non-negative.
        k: columns of H.
        config: settings.

    Returns:
        (H [N, k], its objective).
    """
    config = config or SNMFConfig()
    need_dense(len(graph))
    best: tuple[Matrix, float] | None = None
    for restart in range(config.restarts):
        draw = np.random.default_rng([config.seed, restart])
        h = draw.random((len(graph), k)) * np.sqrt(graph.mean() / k)
        for _ in range(config.steps):
            h = update(graph, h, config.b)
        value = objective(graph, h)
        if best is None or value < best[1]:
            best = h, value
    if best is None:
        raise BudgetError("no restart was made", hint="give at least one")
    return best


def update(graph: Matrix, h: Matrix, b: float) -> Matrix:
    """One damped multiplicative update."""
    return h * (1.0 - b + b * (graph @ h) / np.maximum(h @ (h.T @ h), 1e-12))


def diagnostics(features: Matrix, old: NDArray[np.bool_]) -> dict[str, float]:
    """How near a sample's co-occurrence is to the ideal block form.

    Args:
        features: [N, d] rows, at most 8,192.
        old: [N] bool, True for known classes.

    Returns:
        ``negative`` share of entries below 0, ``old_new`` mean absolute cosine between known and new,
        ``near_zero`` share of features below 1e-3, ``rank`` effective rank, exp of the spectral entropy.
    """
    need_dense(len(features))
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    graph = rows @ rows.T
    block = np.abs(graph[old][:, ~old])
    spectrum = np.linalg.svd(rows, compute_uv=False) ** 2
    share = spectrum / spectrum.sum()
    share = share[share > 0]
    return {
        "negative": float((graph < 0).mean()),
        "old_new": float(block.mean()) if block.size else float("nan"),
        "near_zero": float((np.abs(features) < 1e-3).mean()),
        "rank": float(np.exp(-(share * np.log(share)).sum())),
    }


def class_consistency(features: Matrix, classes: Ids, floor: float = 1e-3) -> float:
    """How far each dimension of non-negative features stands for one class.

    The share of the most frequent class among the rows that a dimension is active in, mean over the
    dimensions that are active anywhere; NaN where none is.

    Args:
        features: [N, d].
        classes: [N].
        floor: a dimension is active in a row where its value is above it.
    """
    active = features > floor
    counts = np.stack([active[classes == c].sum(0) for c in np.unique(classes)])
    counts = counts[:, counts.sum(0) > 0]
    return float((counts.max(0) / counts.sum(0)).mean()) if counts.size else float("nan")
