"""The space that frozen features are grouped in: their main directions, partly evened out.

A backbone's features vary most in what its own training cared about. Keeping the first ``components``
principal directions and dividing each by its spread to the power ``whiten`` lets the quieter ones count
[inferred]; on every real set and with both backbones tried it raised the score
(``benchmarks/discovery_space.py``).
``components=0`` leaves the features as the papers use them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wildsight.discovery.clustering import Rows
from wildsight.errors import ConfigError

FLOOR = 1e-6
"""Directions with a spread below this share of the largest hold rounding noise alone."""


@dataclass(frozen=True)
class SpaceConfig:
    """Settings of the space.

    Attributes:
        components: principal directions kept at most, and at most a quarter of the pictures; 0 keeps the
            features as they are.
        whiten: power of the spread that each is divided by, in [0, 1]; 0 only projects, 1 whitens fully.
    """

    components: int = 64
    whiten: float = 0.5

    def __post_init__(self) -> None:
        if self.components < 0 or not 0 <= self.whiten <= 1:
            raise ConfigError("components below 0, or whiten outside [0, 1]", hint="leave them at 64 and 0.5")


@dataclass(frozen=True)
class Space:
    """A linear map of unit rows to unit rows.

    Attributes:
        mean: [D].
        basis: [D, d].
    """

    mean: Rows
    basis: Rows

    def __call__(self, rows: Rows) -> Rows:
        """[N, D] unit rows -> [N, d] unit rows."""
        mapped = (np.asarray(rows, np.float32) - self.mean) @ self.basis
        return mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)


def fit_space(rows: Rows, config: SpaceConfig, block: int = 1 << 14) -> Space:
    """The space of unit rows [N, D]; float32, by the covariance, so memory does not grow with N."""
    mean = rows.mean(0, dtype=np.float64)
    width = rows.shape[1]
    if not config.components:
        return Space(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
    scatter = np.zeros((width, width))
    for start in range(0, len(rows), block):
        part = rows[start : start + block] - mean.astype(np.float32)
        scatter += part.T @ part
    spread, directions = np.linalg.eigh(scatter / len(rows))
    order = np.argsort(-spread, kind="stable")[: min(config.components, max(2, len(rows) // 4), width)]
    order = order[spread[order] > FLOOR * max(float(spread.max()), 1e-30)]
    if not len(order):
        return Space(mean.astype(np.float32), np.eye(width, dtype=np.float32))
    basis = directions[:, order] / np.sqrt(spread[order]) ** config.whiten
    signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(len(order))])
    return Space(mean.astype(np.float32), (basis * signs).astype(np.float32))
