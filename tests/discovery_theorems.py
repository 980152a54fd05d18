"""The two identities of NN-GCD (arXiv 2410.21807): k-means as a factorisation, and the contrastive loss."""

from __future__ import annotations

import numpy as np

from wildsight.discovery.clustering import Ids
from wildsight.discovery.snmf import Matrix


def indicator(groups: Ids, k: int) -> Matrix:
    """Ht = Y (Y^T Y)^-1/2 [N, k] of a partition: non-negative, orthonormal columns."""
    y = np.eye(k)[groups]
    return y / np.sqrt(np.maximum(y.sum(0), 1e-12))


def inertia_by_theorem(gram: Matrix, groups: Ids, k: int) -> float:
    """Theorem 1: the k-means inertia of a partition with k non-empty groups, from the factorisation error."""
    h = indicator(groups, k)
    error = ((gram - h @ h.T) ** 2).sum()
    return float(np.trace(gram) - ((gram**2).sum() + k) / 2 + error / 2)


def spectral_contrastive(joint: Matrix, f: Matrix) -> float:
    """Theorem 2's bracket: -2 E_(x,x+)~A f(x).f(x+) + E_(x,x-)~pxp (f(x).f(x-))^2.

    Args:
        joint: [N, N] probabilities of positive pairs, symmetric, sum 1.
        f: [N, k] features.
    """
    p = joint.sum(1)
    dots = f @ f.T
    return float(-2.0 * (joint * dots).sum() + (p[:, None] * p[None, :] * dots**2).sum())
