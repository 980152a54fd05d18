"""From pictures to what the methods group: one unit vector each, or the tokens before the last block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate

from wildsight.backbones.cache import CachedFeatures, cached_embeddings
from wildsight.discovery.trunk import Trunk
from wildsight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from wildsight.backbones import Backbone


@dataclass(frozen=True)
class ViewConfig:
    """How a picture is looked at.

    Attributes:
        image_size: pictures are resized (not cropped, aspect not kept) to this square, pixels.
        views: random views kept beside the whole picture, for training; each is one crop, the same place in
            every picture, and every second one is mirrored.
        crop: side of a crop, as a share of the picture's, in (0, 1].
        seed: of the crops' places.
    """

    image_size: int = 224
    views: int = 4
    crop: float = 0.875
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1 or self.views < 0 or self.image_size < 8:
            raise ConfigError("a crop outside (0, 1], or too few pixels or views", hint="see ViewConfig")


def crops(pixels: Tensor, config: ViewConfig) -> list[Tensor]:
    """The whole picture, then its random views, all at the same size.

    Args:
        pixels: [B, 3, S, S].
        config: settings.

    Returns:
        1 + views tensors [B, 3, S, S].
    """
    side = pixels.shape[-1]
    inner = max(1, round(config.crop * side))
    draw = np.random.default_rng(config.seed)
    found = [pixels]
    for view in range(config.views):
        top, left = (int(draw.integers(0, side - inner + 1)) for _ in range(2))
        part = pixels[..., top : top + inner, left : left + inner]
        part = interpolate(part, size=(side, side), mode="bilinear", align_corners=False)
        found.append(part.flip(-1) if view % 2 else part)
    return found


def unit(values: Any) -> np.ndarray:
    """Rows of length 1, float32; a zero row stays zero."""
    rows = np.array(values, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@torch.no_grad()
def vectors_of_images(backbone: Backbone, images: Sequence[Image], size: int) -> np.ndarray:
    """Unit vectors [B, D] of PIL pictures, without a cache."""
    return unit(Trunk(backbone).vector(backbone.preprocess(images, size)).cpu().numpy())


def vectors_of_files(
    backbone: Backbone, files: Sequence[Path], size: int, progress: Callable[[int], Any] | None = None
) -> CachedFeatures:
    """One vector per file through the cache on disk, [N, D] float16 as the backbone gives them."""
    trunk = Trunk(backbone)
    key = {"task": "discovery", "what": "vector"}
    return _finite(
        cached_embeddings(backbone, files, size, trunk.vector, key, dtype="float16", progress=progress)
    )


def tokens_of_files(
    backbone: Backbone,
    files: Sequence[Path],
    config: ViewConfig,
    progress: Callable[[int], Any] | None = None,
) -> CachedFeatures:
    """The tokens before the trained block, [N, 1 + views, T, D] float16, through the cache on disk."""
    trunk = Trunk(backbone)

    def embed(pixels: Tensor) -> Tensor:
        return torch.stack([trunk.tokens(view) for view in crops(pixels, config)], dim=1)

    key = {"task": "discovery", "what": "tokens", **asdict(config)}
    found = cached_embeddings(
        backbone, files, config.image_size, embed, key, dtype="float16", progress=progress
    )
    return _finite(found)


def tokens_of_images(backbone: Backbone, images: Sequence[Image], size: int) -> Tensor:
    """The tokens of whole PIL pictures, [B, T, D], without a cache."""
    return Trunk(backbone).tokens(backbone.preprocess(images, size))


def _finite(found: CachedFeatures) -> CachedFeatures:
    """Refuse NaN and infinity, a row at a time: the array may be larger than memory."""
    for start in range(0, len(found.array), 4096):
        part = found.array[start : start + 4096]
        if not np.isfinite(part).all():
            raise DataError(
                "the backbone gives NaN or infinity", hint="use a smaller image size or other weights"
            )
    return found
