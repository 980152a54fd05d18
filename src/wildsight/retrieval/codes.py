"""Binary codes of embeddings by iterative quantisation, and their Hamming distances.

Paper: ITQ, "Iterative Quantization", CVPR 2011. Equations: V = (X - mean) W with W the first b principal
directions; alternate B = sign(V R) and R from the singular vectors of B^T V, which never lowers
tr(B R^T V^T).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Codes:
    """A trained code: ``mean`` [D], ``project`` [D, b] (principal directions), ``rotate`` [b, b]."""

    mean: Floats
    project: Floats
    rotate: Floats

    def encode(self, embeddings: npt.NDArray[np.floating]) -> Bytes:
        """Packed codes [N, b / 8] of embeddings [N, D]."""
        return np.packbits((embeddings - self.mean) @ self.project @ self.rotate > 0, axis=1)


def train_codes(embeddings: npt.NDArray[np.floating], bits: int, *, rounds: int = 50, seed: int = 0) -> Codes:
    """Fit the rotation on embeddings [N, D], those of training photos for honest use.

    Raises:
        ConfigError: ``bits`` is no multiple of 8, or above D or N.
    """
    count, width = embeddings.shape
    if bits < 8 or bits % 8 or bits > min(width, count):
        text = f"codes of {bits} bits for {count} embeddings of width {width}"
        raise ConfigError(text, hint=f"give a multiple of 8 up to {min(width, count) // 8 * 8}")
    mean = embeddings.mean(0, dtype=np.float64)
    centred = embeddings - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    project = vectors[:, ::-1][:, :bits]
    v = centred @ project
    rotate, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(bits, bits)))
    for _ in range(rounds):
        left, _, right = np.linalg.svd(np.where(v @ rotate > 0, 1.0, -1.0).T @ v)
        rotate = right.T @ left.T
    return Codes(mean, project, rotate)


def hamming(one: Bytes, two: Bytes) -> npt.NDArray[np.float64]:
    """Differing bits [A, B] between packed codes [A, k] and [B, k]."""
    return np.bitwise_count(one[:, None, :] ^ two[None]).sum(2, dtype=np.int64).astype(np.float64)
