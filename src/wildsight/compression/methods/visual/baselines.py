"""The controls: tokens drawn at random, tokens on a uniform grid, and tokens of large norm."""

from __future__ import annotations

import math

import torch

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.visual.vtc_cls import keep_best


def random(view: ImageView, count: int) -> Selection:
    """Uniform without replacement, from the view's seed."""
    draw = torch.Generator().manual_seed(view.seed)
    order = torch.randperm(view.features.shape[0], generator=draw)[:count]
    return Selection(order.sort().values.to(view.features.device))


def grid_indices(n: int, count: int) -> list[int]:
    """``round(linspace(0, n - 1, count))``, all different because ``count <= n``.

    >>> grid_indices(9, 3), grid_indices(5, 1)
    ([0, 4, 8], [0])
    """
    if count == 1:
        return [0]
    return [math.floor(i * (n - 1) / (count - 1) + 0.5) for i in range(count)]


def grid(view: ImageView, count: int) -> Selection:
    """Evenly spaced in raster order."""
    chosen = grid_indices(view.features.shape[0], count)
    return Selection(torch.tensor(chosen, device=view.features.device))


def norm(view: ImageView, count: int) -> Selection:
    """The largest features."""
    return Selection(keep_best(torch.linalg.vector_norm(view.features.float(), dim=-1), count))
