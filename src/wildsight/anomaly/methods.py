"""The task's methods under one interface: build a head, take a training step, score token grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.anomaly.padim import PaDiM, PaDiMConfig
from wildsight.anomaly.patchcore import PatchCore, PatchCoreConfig
from wildsight.anomaly.ras import RASConfig, RASHead, image_score, residual_map
from wildsight.anomaly.uniad import UniADConfig, UniADHead
from wildsight.errors import CheckpointError, ConfigError
from wildsight.training import Batch, TrainConfig

Grid = tuple[int, int]


@dataclass(frozen=True)
class Method:
    """How the detector drives one method.

    Attributes:
        title: name for tables.
        trained: True when it learns by gradient, False when it fits in one pass.
        config: its frozen dataclass of hyper-parameters.
        head: builds the module from the configuration.
        score: (head, [B, C, h, w]) -> ([B, 1, h, w] map, [B] score or None for `picture_score`).
        own_score: True when ``score`` gives a picture's score itself.
    """

    title: str
    trained: bool
    config: Callable[..., Any]
    head: Callable[[Any], nn.Module]
    score: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor | None]]
    own_score: bool = False

    def build(self, channels: int, grid: Grid, seed: int, hyper: Mapping[str, Any]) -> nn.Module:
        """A new head.

        Raises:
            ConfigError: an unknown hyper-parameter or one outside its range.
        """
        known = getattr(self.config, "__dataclass_fields__", {})
        given = {"channels": channels, "grid": grid, "seed": seed}
        own = {name: value for name, value in given.items() if name in known}
        try:
            return self.head(self.config(**{**own, **hyper}))
        except TypeError as error:
            raise ConfigError(str(error), hint=f"see the hyper-parameters of {self.title}") from error

    def restore(
        self, tensors: Mapping[str, Tensor], channels: int, grid: Grid, hyper: Mapping[str, Any]
    ) -> nn.Module:
        """The head that ``tensors`` were saved from.

        Raises:
            CheckpointError: they are for another grid of tokens.
        """
        saved = _grid_of(tensors)
        if saved not in (None, grid):
            raise CheckpointError(
                f"was made for a grid of {saved[0]}x{saved[1]} tokens, these pictures give "
                f"{grid[0]}x{grid[1]}",
                hint="use the image size it was fitted with, or fit again",
            )
        head = self.build(channels, grid, 0, hyper)
        head.load_state_dict(dict(tensors))
        return head.eval()

    @staticmethod
    def step(head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One training step of a reconstruction head: noise in, clean features out."""
        features: Tensor = batch.data
        noise = batch.normal(tuple(features.shape[1:]))
        return {"loss": torch.nn.functional.mse_loss(head(features, noise).float(), features)}

    @staticmethod
    def picture_score(full_map: Tensor) -> Tensor:
        """Peak of the map after 16 x 16 mean pooling; [B, 1, H, W] -> [B]."""
        return image_score(full_map)


def _grid_of(tensors: Mapping[str, Tensor]) -> Grid | None:
    """The grid that saved tensors are for; None where they fit any."""
    if "row" in tensors and "column" in tensors:
        return len(tensors["row"]), len(tensors["column"])
    return (tensors["mean"].shape[0], tensors["mean"].shape[1]) if "mean" in tensors else None


def _residual(head: nn.Module, features: Tensor) -> tuple[Tensor, None]:
    return residual_map(head(features), features), None


def _patchcore(head: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    if not isinstance(head, PatchCore):
        raise ConfigError("not a PatchCore head")
    return head.map_and_score(features)


def _map_alone(head: nn.Module, features: Tensor) -> tuple[Tensor, None]:
    return head(features), None


METHODS: dict[str, Method] = {
    "ras": Method("RAS", True, RASConfig, RASHead, _residual),
    "uniad": Method("UniAD", True, UniADConfig, UniADHead, _residual),
    "patchcore": Method("PatchCore", False, PatchCoreConfig, PatchCore, _patchcore, own_score=True),
    "padim": Method("PaDiM", False, PaDiMConfig, PaDiM, _map_alone),
}


def train_settings(name: str) -> TrainConfig:
    """The published training recipe of a trained method, at batch 16."""
    recipe = TrainConfig(epochs=30, batch_size=16, weight_decay=1e-4, clip_norm=0.1)
    return replace(recipe, lr={"ras": 7e-4, "uniad": 1e-4}.get(name, 1e-3))
