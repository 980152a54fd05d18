"""The grounder's settings, apart from those of its method."""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.errors import ConfigError
from wildsight.spatial.camera import FITS, Fit


@dataclass(frozen=True)
class SpatialSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name of `METHODS`.
        backbone: a LLaVA or LLaVA-NeXT: hub id, local folder or ``nano-llava``.
        cnn: a network for the fine map: hub id, local folder or ``nano-*``.
        strides: of that map.
        fine_side: side of its picture, pixels; None: the tower's.
        fit: how a picture becomes square: ``letterbox`` or ``stretch``.
        seed: of the initialisation, the order and the augmentation.
    """

    method: str = "llmi3d"
    backbone: str = "nano-llava"
    cnn: str = "nano-conv"
    strides: tuple[int, ...] = (4, 8)
    fine_side: int | None = None
    fit: Fit = "letterbox"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ConfigError(f"fit={self.fit!r} is unknown", hint=f"use one of {', '.join(FITS)}")
        if not self.strides or min(self.strides) < 1 or (self.fine_side or 1) < 1:
            raise ConfigError("strides or fine_side is outside its range", hint="give 1 or more of each")
