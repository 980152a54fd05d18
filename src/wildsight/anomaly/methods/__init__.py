"""The task's methods: a file each, registered by name. `AnomalyMethod` is what the detector drives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, mse_loss

from wildsight.errors import CheckpointError
from wildsight.estimators.registry import Registry, from_data
from wildsight.training import Batch, TrainConfig

Grid = tuple[int, int]
RECIPE = TrainConfig(epochs=30, batch_size=16, weight_decay=1e-4, clip_norm=0.1)


@dataclass(frozen=True, kw_only=True)
class AnomalyMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values.

    Attributes:
        channels: C of the features.
        grid: H, W of the token grid.
        seed: of weights, splits and draws inside the method.
    """

    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = False
    """True when it learns by gradient, False when it fits in one pass over the features."""
    own_score: ClassVar[bool] = False
    """True when `score` gives a picture's score itself."""
    recipe: ClassVar[TrainConfig] = RECIPE
    """Training settings, at batch 16."""

    channels: int = from_data(0)
    grid: Grid = from_data((14, 14))
    seed: int = from_data(0)

    def on(self, channels: int, grid: Grid, seed: int) -> Self:
        """The same for these features."""
        return replace(self, channels=channels, grid=grid, seed=seed)

    @abstractmethod
    def head(self) -> nn.Module:
        """A new module for features of ``channels`` and ``grid``.

        Raises:
            ConfigError: a hyper-parameter outside its range.
        """

    @abstractmethod
    def score(self, head: nn.Module, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map [B, 1, h, w] of features [B, C, h, w], and scores [B], or None for `picture_score`."""

    def left_out_scores(self, head: nn.Module, features: Any) -> np.ndarray | None:  # noqa: ARG002
        """Score of each picture that ``head`` was fitted on, exactly as by a fit without it, ``[N]``.

        Args:
            head: just fitted on ``features``.
            features: ``[N, C, H, W]``.

        Returns:
            None where only fits without them can tell. (A coreset cannot: without a picture's tokens it has
            a hole where other pictures' tokens would have been chosen, and scores come out too high.)
        """
        return None

    @staticmethod
    def step(head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One training step of a reconstruction head: noise in, clean features out."""
        features: Tensor = batch.data
        noise = batch.normal(tuple(features.shape[1:]))
        return {"loss": mse_loss(head(features, noise).float(), features)}

    @staticmethod
    def picture_score(full_map: Tensor) -> Tensor:
        """Peak of the map after 16 x 16 mean pooling; [B, 1, H, W] -> [B]."""
        return image_score(full_map)

    def restore(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The head that ``tensors`` were saved from.

        Raises:
            CheckpointError: they are for another grid of tokens.
        """
        saved = _grid_of(tensors)
        if saved not in (None, self.grid):
            raise CheckpointError(
                f"was made for a grid of {saved[0]}x{saved[1]} tokens, these pictures give "
                f"{self.grid[0]}x{self.grid[1]}",
                hint="use the image size it was fitted with, or fit again",
            )
        head = self.head()
        head.load_state_dict(dict(tensors))
        return head.eval()


def image_score(heat: Tensor, pool: int = 16) -> Tensor:
    """Largest mean over any ``pool x pool`` window of ``[B, 1, H, W]`` in pixels, ``[B]``."""
    side = min(pool, heat.shape[-2], heat.shape[-1])
    down = avg_pool2d(heat, (side, 1), stride=1)  # one axis after the other: 2 x 16 sums, not 256
    return avg_pool2d(down, (1, side), stride=1).flatten(1).amax(dim=1)


def residual_map(f_hat: Tensor, f: Tensor) -> Tensor:
    """``||f_hat_i - f_i||_2`` per token, ``[B, 1, H, W]``; its gradient at zero is zero."""
    return torch.linalg.vector_norm(f_hat.float() - f.float(), dim=1, keepdim=True)


def _grid_of(tensors: Mapping[str, Tensor]) -> Grid | None:
    """The grid that saved tensors are for; None where they fit any."""
    if "row" in tensors and "column" in tensors:
        return len(tensors["row"]), len(tensors["column"])
    return (tensors["mean"].shape[0], tensors["mean"].shape[1]) if "mean" in tensors else None


METHODS: Registry[AnomalyMethod] = Registry(
    "method", "wildsight.anomaly.methods", order=("ras", "uniad", "patchcore", "padim")
)
