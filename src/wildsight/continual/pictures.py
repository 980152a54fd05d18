"""Pictures of a task as samples: decoded once, kept in memory while they are few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from wildsight.continual.tasks import Pair, Picture
from wildsight.images import as_picture, load_image
from wildsight.training.batches import mix

KEPT_BYTES = 512 << 20
RATIO = (3 / 4, 4 / 3)
Open = Callable[[Path], Image]


def opened(picture: Picture, open_file: Open = load_image) -> Image:
    """A picture as RGB.

    Raises:
        ImageError: the file cannot be read.
    """
    return open_file(picture) if isinstance(picture, Path) else as_picture(picture)


class Pictures(Dataset[dict[str, Any]]):
    """Samples ``{"pixels": uint8 [S, S, 3], "label": int}`` in the test view.

    Args:
        pairs: pictures and labels.
        view: RGB picture -> uint8 [S, S, 3].
        open_file: how a file becomes a picture.
    """

    def __init__(
        self, pairs: Sequence[Pair], view: Callable[[Image], np.ndarray], open_file: Open = load_image
    ) -> None:
        self.pairs, self.view, self.open_file = list(pairs), view, open_file
        self.kept: dict[int, Tensor] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def labels(self) -> Tensor:
        """[N] int64."""
        return torch.tensor([y for _, y in self.pairs], dtype=torch.int64)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixels": self.pixels(index), "label": self.pairs[index][1]}

    def pixels(self, index: int) -> Tensor:
        """uint8 [S, S, 3]."""
        if index in self.kept:
            return self.kept[index]
        made = torch.from_numpy(np.array(self.view(opened(self.pairs[index][0], self.open_file))))
        if self.bytes + made.numel() <= KEPT_BYTES:
            self.kept[index], self.bytes = made, self.bytes + made.numel()
        return made

    def batches(self, size: int = 128) -> Any:
        """uint8 [B, S, S, 3] in order."""
        for start in range(0, len(self), size):
            rows = range(start, min(start + size, len(self)))
            yield torch.stack([self.pixels(i) for i in rows])


def cropped(pixels: Tensor, least: float, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Random resized crops, each drawn from (seed, epoch, index) alone.

    Args:
        pixels: normalised [B, 3, S, S].
        least: least share of the area, in (0, 1]; 1 changes nothing.
        seed, epoch, index: of the batch.
    """
    if least >= 1:
        return pixels
    boxes = torch.stack([_box(least, mix(seed, epoch, i, 5)) for i in index.tolist()])
    x, y, half_w, half_h = boxes.to(pixels).unbind(1)
    zero = torch.zeros_like(x)
    rows = (torch.stack([half_w, zero, x], -1), torch.stack([zero, half_h, y], -1))
    grid = functional.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    return functional.grid_sample(
        pixels, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )


def _box(least: float, seed: int) -> Tensor:
    """Centre x, y and half sides of a crop, in [-1, 1] coordinates of the picture."""
    draw = torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    area = least + (1 - least) * draw[0]
    ratio = torch.exp(torch.log(torch.tensor(RATIO[0])) * (1 - 2 * draw[1]))
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    centre = (2 * draw[2:] - 1) * torch.stack([1 - width, 1 - height])
    return torch.cat([centre, torch.stack([width, height])])
