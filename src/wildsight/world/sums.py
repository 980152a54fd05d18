"""Products of matrices, points and directions as sums of a fixed order; no BLAS.

A BLAS rounds by the kernel that it chooses for the processor. These sums are multiplications and additions of
whole arrays, which round alike everywhere. Every coordinate and direction of the world passes through here:
`tests/test_world_steady.py` disturbs what these functions return and looks at how much of a picture changes.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = TypeVar("Floats", npt.NDArray[np.float32], npt.NDArray[np.float64])


def turned(matrix: Floats, points: Floats) -> Floats:
    """The product of a matrix [R, D] and points [D, N] or one point [D]: [R, N] or [R]."""
    if points.ndim == 1:
        return (matrix * points).sum(1)
    if not matrix.all():
        return _sparse(matrix, points)
    columns = matrix[:, :, None]
    out = columns[:, 0] * points[0]
    part = np.empty_like(out)
    for axis in range(1, len(points)):
        out += np.multiply(columns[:, axis], points[axis], out=part)
    return out


def _sparse(matrix: Floats, points: Floats) -> Floats:
    """The same without the zeros of the matrix: the normals of a box have two each."""
    out = np.empty((len(matrix), points.shape[1]), points.dtype)
    for line, factors in zip(out, matrix.tolist(), strict=True):
        first = next((axis for axis, factor in enumerate(factors) if factor), 0)
        np.multiply(points[first], factors[first], out=line)
        for axis in range(first + 1, len(factors)):
            if factors[axis]:
                line += points[axis] * factors[axis]
    return out


def dotted(one: Floats, two: Floats) -> Floats:
    """The inner product over the leading axis of vectors [D] or [D, N] with others [D, N]: [N]."""
    out = one[0] * two[0]
    for axis in range(1, len(two)):
        out = out + one[axis] * two[axis]
    return out


def lengths(vectors: Floats) -> Floats:
    """The lengths [N] of vectors [D, N]."""
    return np.sqrt(dotted(vectors, vectors))
