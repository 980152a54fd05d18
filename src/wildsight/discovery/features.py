"""From pictures to what the methods group: one unit vector each, or the tokens before the last block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate

from wildsight.backbones.cache import CachedFeatures, cached_embeddings
from wildsight.discovery.data import CategoryData, readable
from wildsight.discovery.partial_finetune import Trunk
from wildsight.errors import ConfigError, DataError, WildSightError
from wildsight.training.progress import Meter

if TYPE_CHECKING:
    from wildsight.backbones import Backbone

Advance = Callable[[int], Any]


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
            what = f"crop={self.crop}, views={self.views}, image_size={self.image_size}"
            raise ConfigError(what, hint="give a crop in (0, 1], views of at least 0 and 8 pixels or more")


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
    views = [pixels]
    for view in range(config.views):
        top, left = (int(draw.integers(0, side - inner + 1)) for _ in range(2))
        part = pixels[..., top : top + inner, left : left + inner]
        part = interpolate(part, size=(side, side), mode="bilinear", align_corners=False)
        views.append(part.flip(-1) if view % 2 else part)
    return views


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


@dataclass(frozen=True)
class Frozen:
    """The readable pictures of a data set with their frozen features.

    Attributes:
        data: without the others.
        rows: [N] their places among all.
        vectors: [N, D] unit vectors.
        errors: one per picture that is left out.
    """

    data: CategoryData
    rows: NDArray[np.int64]
    vectors: np.ndarray
    errors: list[WildSightError]


def frozen_pictures(
    backbone: Backbone,
    data: CategoryData,
    size: int,
    *,
    progress: bool,
    advance: Advance | None = None,
    only: tuple[NDArray[np.bool_], str] | None = None,
) -> Frozen:
    """The frozen features of a data set.

    Args:
        backbone: frozen network.
        data: labelled and unlabelled pictures.
        size: side of the square that they are resized to, pixels.
        progress: show progress and the time left.
        advance: called with the number of pictures just done.
        only: [all] which pictures may be used, and why the others are left out.

    Raises:
        DataError: a known class or everything unlabelled cannot be read.
    """
    files = [s.image for s in data.samples]
    with Meter("features", len(files), enabled=progress) as meter:

        def done(count: int) -> None:
            meter.add(count)
            if advance is not None:
                advance(count)

        cached = vectors_of_files(backbone, files, size, done)
    errors, ok = list(cached.errors), np.array(cached.ok)
    if only is not None:
        errors += [DataError(only[1], where=files[int(i)]) for i in np.flatnonzero(ok & ~only[0])]
        ok &= only[0]
    left, rows = readable(data, ok)
    return Frozen(left, rows, unit(cached.array[rows]), errors)


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
    cached = cached_embeddings(
        backbone, files, config.image_size, embed, key, dtype="float16", progress=progress
    )
    return _finite(cached)


def tokens_of_images(backbone: Backbone, images: Sequence[Image], size: int) -> Tensor:
    """The tokens of whole PIL pictures, [B, T, D], without a cache."""
    return Trunk(backbone).tokens(backbone.preprocess(images, size))


def _finite(cached: CachedFeatures) -> CachedFeatures:
    """Refuse NaN and infinity, a row at a time: the array may be larger than memory."""
    for start in range(0, len(cached.array), 4096):
        part = cached.array[start : start + 4096]
        if not np.isfinite(part).all():
            raise DataError(
                "the backbone gives NaN or infinity", hint="use a smaller image size or other weights"
            )
    return cached
