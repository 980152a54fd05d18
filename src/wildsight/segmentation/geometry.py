"""From a picture to the model's square and back: pixels, prompts and masks.

Two geometries. ``squash`` stretches the picture to the square and forgets its aspect; ``letterbox`` scales
the longest side to the square and pads right and below. Training, evaluation and an adapter must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.nn.functional import interpolate

from wildsight.errors import ConfigError

GEOMETRIES = ("squash", "letterbox")


@dataclass(frozen=True)
class Frame:
    """Where one picture lies in the model's square.

    Attributes:
        width, height: of the picture, pixels.
        size: side of the square, pixels.
        inner: (width, height) of the picture inside the square, pixels, anchored top left.
    """

    width: int
    height: int
    size: int
    inner: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Square pixels per picture pixel, (x, y)."""
        return self.inner[0] / self.width, self.inner[1] / self.height


def frame(width: int, height: int, size: int, geometry: str) -> Frame:
    """The frame of a picture.

    Args:
        width: of the picture, pixels, >= 1.
        height: of the picture, pixels, >= 1.
        size: side of the square, pixels.
        geometry: ``squash`` or ``letterbox``.

    Raises:
        ConfigError: an unknown geometry.

    >>> frame(200, 100, 64, "letterbox").inner, frame(200, 100, 64, "squash").inner
    ((64, 32), (64, 64))
    """
    if geometry not in GEOMETRIES:
        raise ConfigError(f"no geometry is called {geometry!r}", hint=f"use one of {', '.join(GEOMETRIES)}")
    if geometry == "squash":
        return Frame(width, height, size, (size, size))
    longest = max(width, height)
    inner = (max(1, round(width * size / longest)), max(1, round(height * size / longest)))
    return Frame(width, height, size, inner)


def place(picture: Image, where: Frame) -> np.ndarray:
    """The picture in its square: [size, size, 3] uint8, zero where padded."""
    square = np.zeros((where.size, where.size, 3), np.uint8)
    square[: where.inner[1], : where.inner[0]] = np.asarray(
        picture.convert("RGB").resize(where.inner, Resampling.BILINEAR)
    )
    return square


def place_mask(mask: np.ndarray, where: Frame) -> np.ndarray:
    """A [height, width] bool mask in its square, nearest: [size, size] uint8 of 0 and 1."""
    columns = ((np.arange(where.inner[0]) + 0.5) * where.width / where.inner[0]).astype(np.intp)
    rows = ((np.arange(where.inner[1]) + 0.5) * where.height / where.inner[1]).astype(np.intp)
    square = np.zeros((where.size, where.size), np.uint8)
    square[: where.inner[1], : where.inner[0]] = mask[rows[:, None], columns]
    return square


def mirror(square: Tensor, width: int) -> Tensor:
    """[..., S, S] with its first ``width`` columns mirrored; the padding beside them stays."""
    turned = square.clone()
    turned[..., :width] = square[..., :width].flip(-1)
    return turned


def to_square(points: Tensor, where: Frame) -> Tensor:
    """[..., 2] (x, y) picture pixels to square pixels."""
    return points * torch.tensor(where.scale, dtype=points.dtype, device=points.device)


def to_picture(logits: Tensor, where: Frame) -> Tensor:
    """Low-resolution logits [P, h, w] at the picture's size: [P, height, width], bilinear."""
    size = (where.height, where.width)
    full = logits[:, None].float()
    if where.inner != (where.size, where.size):
        full = interpolate(full, (where.size, where.size), mode="bilinear", align_corners=False)
        full = full[..., : where.inner[1], : where.inner[0]]
    return interpolate(full, size, mode="bilinear", align_corners=False)[:, 0]


def valid_tokens(frames: Sequence[Frame], grid: tuple[int, int]) -> Tensor:
    """[B, N] bool: tokens that see any of the picture, in raster order; all true for ``squash``."""
    rows, columns = grid
    seen = []
    for one in frames:
        inside_x = torch.arange(columns) * one.size / columns < one.inner[0]
        inside_y = torch.arange(rows) * one.size / rows < one.inner[1]
        seen.append((inside_y[:, None] & inside_x[None]).flatten())
    return torch.stack(seen)
