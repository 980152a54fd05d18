"""From pictures to the token grid that every method of this task works on, cached once on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildsight.anomaly.methods.ras import resize_to_grid, smooth_neck
from wildsight.backbones.cache import CachedFeatures, cached_features

if TYPE_CHECKING:
    from torch import Tensor

    from wildsight.backbones import Backbone

USUAL = (2, 4, 8, 16)


@dataclass(frozen=True)
class NeckConfig:
    """How the taps of a backbone become one grid.

    Attributes:
        image_size: pictures are resized (not cropped, aspect not kept) to this square, pixels.
        strides: taps of the backbone, by stride; the last one gives the grid. A backbone that lacks some of
            the usual ones (ConvNeXt and Swin begin at 4, a ViT has its patch alone) gives those that it has.
        smooth: side of the neighbourhood mean before resizing, tokens; 1 switches it off.
    """

    image_size: int = 224
    strides: tuple[int, ...] = USUAL
    smooth: int = 3

    @property
    def grid(self) -> tuple[int, int]:
        """Token grid (rows, columns)."""
        side = -(-self.image_size // max(self.strides))
        return side, side

    def on(self, backbone: Backbone) -> NeckConfig:
        """This neck with the taps that the backbone has; strides that were asked for are left as they are.

        Raises:
            UnsupportedModelError: the backbone takes pictures of another size alone.
        """
        backbone.check_size(self.image_size)
        if self.strides != USUAL or set(USUAL) <= set(backbone.strides):
            return self
        return replace(self, strides=tuple(s for s in USUAL if s in backbone.strides) or backbone.strides)


def assemble(pyramid: Mapping[int, Tensor], neck: NeckConfig) -> Tensor:
    """Smooth every tap, resize it to the grid and concatenate.

    Args:
        pyramid: stride -> [B, C_s, h, w].
        neck: settings.

    Returns:
        [B, C, H, W] with C the sum of C_s.
    """
    import torch

    taps = [pyramid[s] if neck.smooth == 1 else smooth_neck(pyramid[s], neck.smooth) for s in neck.strides]
    return torch.cat([resize_to_grid(tap, neck.grid) for tap in taps], dim=1)


def features_of_images(backbone: Backbone, images: Sequence[Any], neck: NeckConfig) -> Tensor:
    """Token grids of PIL pictures, [B, C, H, W], without a cache."""
    pixels = backbone.preprocess(images, neck.image_size)
    return assemble(backbone.pyramid(pixels, neck.strides), neck)


def features_of_files(
    backbone: Backbone, files: Sequence[Path], neck: NeckConfig, progress: Callable[..., Any] | None = None
) -> CachedFeatures:
    """Token grids of files through the cache on disk: no picture is decoded twice."""
    return cached_features(
        backbone,
        files,
        neck.image_size,
        neck.strides,
        lambda pyramid: assemble(pyramid, neck),
        {"neck": asdict(neck)},
        progress=progress,
    )
