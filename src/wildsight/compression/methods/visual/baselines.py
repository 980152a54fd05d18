"""The controls: tokens drawn at random, tokens on a uniform grid, and tokens of large norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.visual.base import SELECTORS, VisualSelector, keep_best


def grid_indices(n: int, count: int) -> list[int]:
    """``round(linspace(0, n - 1, count))``, all different because ``count <= n``.

    >>> grid_indices(9, 3), grid_indices(5, 1)
    ([0, 4, 8], [0])
    """
    if count == 1:
        return [0]
    return [math.floor(i * (n - 1) / (count - 1) + 0.5) for i in range(count)]


class Control(VisualSelector):
    """A selector that looks at no saliency."""

    @property
    def saliency_layers(self) -> int:
        """None."""
        return 0


@SELECTORS.register("norm")
@dataclass(frozen=True)
class LargestNorm(Control):
    """The largest features."""

    def select(self, view: ImageView, count: int) -> Selection:
        """The ``count`` tokens of the largest norm."""
        return Selection(keep_best(torch.linalg.vector_norm(view.features.float(), dim=-1), count))


@SELECTORS.register("grid")
@dataclass(frozen=True)
class Grid(Control):
    """Evenly spaced in raster order."""

    def select(self, view: ImageView, count: int) -> Selection:
        """Every so many tokens one, the first and the last among them."""
        chosen = grid_indices(view.features.shape[0], count)
        return Selection(torch.tensor(chosen, device=view.features.device))


@SELECTORS.register("random")
@dataclass(frozen=True)
class RandomTokens(Control):
    """Uniform without replacement, from the view's seed."""

    draws: ClassVar[bool] = True

    def select(self, view: ImageView, count: int) -> Selection:
        """``count`` tokens drawn at random."""
        draw = torch.Generator().manual_seed(view.seed)
        order = torch.randperm(view.features.shape[0], generator=draw)[:count]
        return Selection(order.sort().values.to(view.features.device))
