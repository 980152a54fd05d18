"""The task's methods: a file each, registered by name. `FusionMethod` is what the segmenter drives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import nn

from wildsight.estimators.registry import Registry, from_data
from wildsight.training import TrainConfig

SAME, CONCATENATED, SUMMED = "same", "concatenation", "routed sum"
FINE = (SAME, CONCATENATED, SUMMED)
"""How the finest scale is fused: as the others, by concatenation, or summed with the routed shares."""
MOST = 6
"""Modalities at most."""
RECIPE = TrainConfig(
    epochs=30, batch_size=16, lr=2e-3, weight_decay=0.01, schedule="cosine", warmup=0.1, clip_norm=5.0
)


@dataclass(frozen=True, kw_only=True)
class FusionMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values.

    Attributes:
        channels: of every modality's feature map.
        modalities: M.
        width: channels of the fused map.
    """

    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = True
    """All of them learn by gradient."""
    recipe: ClassVar[TrainConfig] = RECIPE
    """Training settings."""
    fine: ClassVar[str] = SAME
    """What fuses the finest scale, from `FINE`."""

    channels: int = from_data(0)
    modalities: int = from_data(0)
    width: int = from_data(0)

    @property
    def maps(self) -> int:
        """Maps that leave the fusion of one scale: 2 where it tells shared from specific."""
        return 1

    def on(self, channels: int, modalities: int, width: int) -> Self:
        """The same for these feature maps.

        Raises:
            ConfigError: a hyper-parameter that does not fit them.
        """
        return replace(self, channels=channels, modalities=modalities, width=width)

    @abstractmethod
    def module(self) -> nn.Module:
        """A new fusion of one scale: M maps [B, channels, H, W] and their presence to `Fused`."""


METHODS: Registry[FusionMethod] = Registry(
    "method",
    "wildsight.fusion.methods",
    order=("pwrf", "concatenation", "summation", "cross-attention", "token-selection", "single"),
)
