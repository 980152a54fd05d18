"""Noise from whole numbers: a hash of the cell a point lies in and a seed, the same bits on every processor.

Integers do not round. Only which cell a point lies in depends on the rounding of its coordinates, and
`rough_noise` passes smoothly from one cell to the next, so that a coordinate wrong in its last bits changes
the noise in its last bits.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

_AXES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd, so that no two of an axis's 2**32 cells share a product
_PASSAGE = 0.25  # share of a cell's side over which its value becomes the next one's


def mixed(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A bijection of 32-bit numbers in which every bit in changes about half of the bits out.

    The constants are those of Chris Wellons's ``lowbias32``.

    >>> mixed(np.arange(3, dtype=np.uint32))
    array([         0, 1753845952, 3507691905], dtype=uint32)
    """
    codes = codes ^ (codes >> np.uint32(16))
    codes *= np.uint32(0x7FEB352D)
    codes ^= codes >> np.uint32(15)
    codes *= np.uint32(0x846CA68B)
    codes ^= codes >> np.uint32(16)
    return codes


def noise_of_cells(cells: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """A value in [-1, 1) for each cell, given by whole coordinates [D, N], D up to 3: [N]."""
    return _value(_codes(cells), seed)


def rough_noise(at: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Noise of mean 0 and the variance 1/3 of values even in [-1, 1], at points [D, N] in cells, D up to 3.

    The inner part of a cell has one value; over the rest the values of neighbours mix, so that the noise is
    continuous.
    """
    low = np.floor(at)
    share = np.clip((at - low - np.float32(0.5)) / np.float32(_PASSAGE) + np.float32(0.5), 0, 1)
    sides, codes = (1 - share, share), _codes(low)
    noise = np.zeros(at.shape[1], np.float32)
    for corner in product((0, 1), repeat=len(at)):
        weight = sides[corner[0]][0]
        for axis in range(1, len(at)):
            weight = weight * sides[corner[axis]][axis]
        step = sum(_AXES[axis] * upper for axis, upper in enumerate(corner))
        noise += weight * _value(codes + np.uint32(step % 2**32), seed)
    return noise * np.float32((1 - _PASSAGE / 3) ** (-len(at) / 2))


def _codes(cells: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """A 32-bit number [N] for each cell [D, N]: sums of multiples that meet only for cells far apart."""
    whole = cells.astype(np.int64).astype(np.uint32)
    codes = whole[0] * np.uint32(_AXES[0])
    for axis in range(1, len(whole)):
        codes += whole[axis] * np.uint32(_AXES[axis])
    return codes


def _value(codes: npt.NDArray[np.uint32], seed: int) -> npt.NDArray[np.float32]:
    mixture = mixed(codes ^ np.uint32(seed)) >> np.uint32(8)
    return mixture.astype(np.float32) * np.float32(2**-23) - np.float32(1)
