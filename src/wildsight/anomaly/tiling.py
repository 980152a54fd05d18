"""Large pictures in tiles: neighbours overlap by a quarter, their maps are blended by raised cosines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from wildsight.errors import ConfigError

OVERLAP = 0.25


def starts(length: int, tile: int, overlap: float = OVERLAP) -> list[int]:
    """Where tiles begin along one side: evenly spread, the first at 0, the last flush with the end.

    Args:
        length: of the side, pixels.
        tile: side of a tile, pixels.
        overlap: share of a tile that it has in common with the next one at least, in [0, 1).

    >>> starts(100, 40), starts(40, 40), starts(30, 40)
    ([0, 30, 60], [0], [0])
    """
    if length <= tile:
        return [0]
    count = 1 + math.ceil((length - tile) / (tile * (1 - overlap)))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def corners(size: tuple[int, int], tile: int) -> list[tuple[int, int]]:
    """(left, top) of every tile of a picture of ``size`` (width, height), row by row.

    Raises:
        ConfigError: a tile of less than 32 pixels.
    """
    if tile < 32:
        raise ConfigError(f"tile={tile} is too small", hint="give 32 pixels or more")
    return [(x, y) for y in starts(size[1], tile) for x in starts(size[0], tile)]


def cut(picture: Image, places: Sequence[tuple[int, int]], tile: int) -> list[Image]:
    """The tiles; one that is larger than the picture along a side ends with the picture."""
    width, height = picture.size
    return [picture.crop((x, y, min(x + tile, width), min(y + tile, height))) for x, y in places]


def raised_cosine(height: int, width: int) -> NDArray[np.float64]:
    """[height, width] weights: 1 in the middle, towards 0 at the rim, never 0."""
    rows, columns = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in (height, width))
    return rows[:, None] * columns[None]


def blend(
    maps: NDArray[np.float32], places: Sequence[tuple[int, int]], tile: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """One map from the tiles' maps.

    Args:
        maps: [T, S, S], one per tile, each stretched to S x S.
        places: T (left, top) in pixels of the picture.
        tile: side of a tile, pixels.
        size: (width, height) of the picture, pixels.

    Returns:
        [H, W] float32 at the tiles' scale: H = height * S / tile, W = width * S / tile, rounded.
    """
    scale = maps.shape[1] / tile
    shape = (max(1, round(size[1] * scale)), max(1, round(size[0] * scale)))
    total, weights = np.zeros(shape), np.zeros(shape)
    for heat, (x, y) in zip(maps, places, strict=True):
        top, left = round(y * scale), round(x * scale)
        bottom = min(shape[0], round(min(y + tile, size[1]) * scale))
        right = min(shape[1], round(min(x + tile, size[0]) * scale))
        fitted = _stretched(heat, (bottom - top, right - left))
        weight = raised_cosine(*fitted.shape)
        total[top:bottom, left:right] += weight * fitted
        weights[top:bottom, left:right] += weight
    return (total / weights).astype(np.float32)


def seen_in_tiles(
    picture: Image,
    tile: int,
    see: Callable[[Sequence[Image]], list[tuple[float, NDArray[np.float32]]]],
    batch: int,
) -> tuple[float, NDArray[np.float32]]:
    """The highest score of a tile, and the blended map.

    Args:
        picture: RGB.
        tile: side of a tile, pixels.
        see: pictures -> a score and a map [S, S] for each.
        batch: tiles at a time.
    """
    places = corners(picture.size, tile)
    pieces = cut(picture, places, tile)
    seen = [one for i in range(0, len(pieces), batch) for one in see(pieces[i : i + batch])]
    return max(score for score, _ in seen), blend(
        np.stack([heat for _, heat in seen]), places, tile, picture.size
    )


def _stretched(heat: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear, corners aligned; the map itself where it has the size already."""
    if heat.shape == size:
        return heat.astype(np.float64)
    rows, columns = (np.linspace(0, old - 1, new) for old, new in zip(heat.shape, size, strict=True))
    down = np.stack([np.interp(rows, np.arange(heat.shape[0]), column) for column in heat.T], axis=1)
    return np.stack([np.interp(columns, np.arange(heat.shape[1]), row) for row in down])
