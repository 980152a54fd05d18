"""One modality alone: what every fusion has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from wildsight.errors import ConfigError
from wildsight.estimators.registry import at_least, check_ranges
from wildsight.fusion.fused import ConvNormReLU, Fused, on_present, presence
from wildsight.fusion.methods import METHODS, FusionMethod


@METHODS.register("single")
@dataclass(frozen=True, kw_only=True)
class Single(FusionMethod):
    """Which modality is used."""

    title = "single modality"

    modality: int | None = None
    """Index of the one that is used; None: the one that does best on held-out training scenes."""

    def __post_init__(self) -> None:
        if self.modality is None:
            return
        check_ranges(self, modality=at_least(0))
        if self.modalities and self.modality >= self.modalities:
            hint = f"give an index below {self.modalities}"
            raise ConfigError(f"there is no modality {self.modality}", where="modality", hint=hint)

    def module(self) -> SingleFusion:
        """Two CBR on one modality."""
        return SingleFusion(self)


class SingleFusion(nn.Module):
    """Two CBR on one modality; zeros where it is missing."""

    def __init__(self, config: Single) -> None:
        super().__init__()
        self.modality, self.width = config.modality or 0, config.width
        self.mix = nn.Sequential(
            ConvNormReLU(config.channels, config.width), ConvNormReLU(config.width, config.width)
        )

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """M maps [B, channels, H, W] to one [B, width, H, W]."""
        here = presence(feats, present)[:, self.modality]
        return Fused(on_present(self.mix, feats[self.modality], here, self.width))
