"""One modality alone: what every fusion has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from wildsight.errors import ConfigError
from wildsight.fusion.fused import ConvNormReLU, Fused, on_present, presence


@dataclass(frozen=True)
class SingleConfig:
    """Which modality, and the size of its map."""

    channels: int
    """Channels of every modality's map."""
    modalities: int
    """M."""
    width: int = 128
    """Channels of the map."""
    modality: int = 0
    """Index of the one that is used."""

    def __post_init__(self) -> None:
        if not 0 <= self.modality < self.modalities:
            hint = f"give an index below {self.modalities}"
            raise ConfigError(f"there is no modality {self.modality}", where="modality", hint=hint)


class Single(nn.Module):
    """Two CBR on one modality; zeros where it is missing."""

    def __init__(self, config: SingleConfig) -> None:
        super().__init__()
        self.modality, self.width = config.modality, config.width
        self.mix = nn.Sequential(
            ConvNormReLU(config.channels, config.width), ConvNormReLU(config.width, config.width)
        )

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """M maps [B, channels, H, W] to one [B, width, H, W]."""
        here = presence(feats, present)[:, self.modality]
        return Fused(on_present(self.mix, feats[self.modality], here, self.width))
