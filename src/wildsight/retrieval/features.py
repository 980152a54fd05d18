"""Tower features of sketches and photos, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone
from wildsight.backbones.cache import CachedFeatures, cached_embeddings
from wildsight.retrieval.data import PHOTO, SKETCH
from wildsight.retrieval.sketch import normalise_sketch

SIZE = 224


def embed(backbone: Backbone, pixels: Tensor) -> Tensor:
    """[B, D]: the space shared with texts where the tower has one, else its global feature."""
    if backbone.shared_space:
        return backbone.embed_images(pixels)
    feature = backbone.features(pixels).cls
    return pixels.new_zeros(len(pixels), 0) if feature is None else feature


def features_of_files(
    backbone: Backbone,
    files: Sequence[Path],
    modality: int,
    *,
    size: int = SIZE,
    progress: Callable[[int], Any] | None = None,
) -> CachedFeatures:
    """Features [N, D] through the cache; sketches are brought to one form first."""
    prepare = normalise_sketch if modality == SKETCH else None
    return cached_embeddings(
        backbone,
        files,
        size,
        lambda pixels: embed(backbone, pixels),
        {"task": "retrieval", "form": "sketch-1" if prepare else "photo"},
        prepare=prepare,
        progress=progress,
    )


def features_of_pictures(
    backbone: Backbone, pictures: Sequence[Image], modality: int, *, size: int = SIZE
) -> np.ndarray:
    """Features [N, D] of pictures in memory."""
    formed = list(pictures) if modality == PHOTO else [normalise_sketch(p) for p in pictures]
    with torch.no_grad():
        features = embed(backbone, backbone.preprocess(formed, size))
    return features.cpu().numpy().astype(np.float32)
