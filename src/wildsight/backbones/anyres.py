"""LLaVA-NeXT's pictures in tiles: the place of each token in the prompt."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor


def next_geometry(model: Any, image_sizes: Tensor) -> list[Tensor]:
    """For each image, the patch that stands at each packed place, counted over all images' tiles; -1 for a
    newline.

    The base tile's patches come first. An image whose features are their own index goes through the model's
    packing.

    Args:
        model: ``LlavaNextForConditionalGeneration``.
        image_sizes: [B, 2] height and width, pixels.
    """
    count = sys.modules[type(model).__module__].image_size_to_num_patches
    config = model.config
    side = config.vision_config.image_size
    tiles = [
        count(image_size=s, grid_pinpoints=config.image_grid_pinpoints, patch_size=side) for s in image_sizes
    ]
    patches = (side // config.vision_config.patch_size) ** 2
    index = torch.arange(sum(tiles) * patches, dtype=torch.float32).view(-1, patches, 1)
    packed, _ = model.model.pack_image_features(
        list(index.split(tiles)),
        image_sizes,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_newline=torch.tensor([-1.0]),
    )
    return [p[:, 0].round().long() for p in packed]
