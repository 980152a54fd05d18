"""Settings of the fusion segmenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wildsight.backbones import Backbone
from wildsight.errors import ConfigError
from wildsight.estimators.registry import SHARE, check_ranges

Encoders = Literal["frozen", "shared", "each"]
Fine = Literal["same", "concatenation", "routed sum"]
STRIDES = (4, 8, 16)


def tapped(backbone: Backbone) -> tuple[int, ...]:
    """Those of `STRIDES` that the backbone has, or all of its own: a ViT has one, its patch."""
    return tuple(s for s in STRIDES if s in backbone.strides) or backbone.strides


@dataclass(frozen=True)
class FusionSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name from `METHODS`.
        backbone: hub id, local folder or ``nano-*``.
        image_size: pictures are stretched to this square, or (H, W), pixels.
        strides: taps of the backbone, fine to coarse; by default `tapped`.
        width: channels of the fused maps.
        encoders: ``frozen`` features, or a backbone that trains: one for all (``shared``) or ``each``.
        drop: share of modalities hidden while training, in [0, 1).
        seed: of the initialisation, the order, the flips and the hiding.
        fine: what fuses the finest scale, from `methods.FINE`; None: what the method says.
        stretch: modalities whose every picture is stretched between its 2nd and 98th percentile, such as the
            nearly black depth of VDT-2048; what a value means then differs from picture to picture.
    """

    method: str = "pwrf"
    backbone: str = "nano-conv"
    image_size: int | tuple[int, int] = 64
    strides: tuple[int, ...] = (4, 8, 16)
    width: int = 64
    encoders: Encoders = "frozen"
    drop: float = 0.1
    seed: int = 0
    fine: Fine | None = None
    stretch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(*self.size, self.width, *self.strides) < 1:
            what, hint = "image_size, width and strides are at least 1", "give whole numbers above 0"
            raise ConfigError(what, where="FusionSettings", hint=hint)
        check_ranges(self, drop=SHARE)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
