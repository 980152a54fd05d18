"""Label Studio's runs of a brush: thi.ng's rle-pack of RGBA bytes, of which the last one is the mask.

A header of 32 bits (how many values), 5 (bits a value, less one) and four times 4 (bits a length, less one);
then pieces: one bit (run or literal values), two bits (which of the four lengths), the length less one, and
the value or the values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LENGTHS = (3, 4, 8, 16)
"""Bits of a length, as Label Studio writes them."""
_VALUE = 8


def decode(numbers: Sequence[int], count: int) -> NDArray[np.uint8]:
    """The ``count`` values that runs stand for.

    Raises:
        ValueError: damaged runs, or runs of another count.
    """
    data = bytes(numbers)
    at = 0

    def take(bits: int) -> int:
        nonlocal at
        start, at = at, at + bits
        if at > 8 * len(data):
            raise ValueError("the runs end early")
        piece = int.from_bytes(data[start // 8 : -(-at // 8)], "big")
        return piece >> (-at % 8) & ((1 << bits) - 1)

    if take(32) != count:
        raise ValueError("the runs are for another size")
    width = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values, lengths, done = list[int](), list[int](), 0
    while done < count:
        run = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(width)] if run else [take(width) for _ in range(length)]
        lengths += [length] if run else [1] * length
        done += length
    if done != count:
        raise ValueError("the runs are longer than they say")
    return np.repeat(np.array(values, np.uint64).astype(np.uint8), lengths)


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """The runs of a mask [H, W]: white and opaque on the mask, and nothing beside it."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = 4 * np.diff(starts, append=flat.size)
    text = [f"{4 * flat.size:032b}{_VALUE - 1:05b}", *(f"{n - 1:04b}" for n in LENGTHS)]
    longest = 1 << LENGTHS[-1]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = 255 if flat[start] else 0
        for piece in [longest] * (length // longest) + [length % longest] * bool(length % longest):
            text.append(f"111{piece - 1:016b}{value:08b}")
    bits = "".join(text)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
