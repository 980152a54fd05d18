"""Pictures in tiles, as LLaVA-NeXT and LLaVA-OneVision pack them: which token stands where in the prompt."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tile_counts(model: Any, image_sizes: Tensor, batch_num_images: Any = None) -> list[int]:
    """Tiles of each image, the base tile among them.

    Args:
        model: ``LlavaNextForConditionalGeneration`` or ``LlavaOnevisionForConditionalGeneration``.
        image_sizes: [B, 2] height and width, pixels.
        batch_num_images: images of each prompt, where a prompt with several is not tiled; None tiles all.
    """
    count = sys.modules[type(model).__module__].image_size_to_num_patches
    config = model.config
    side = config.vision_config.image_size
    tiled = [True] * len(image_sizes)
    if batch_num_images is not None:
        tiled = [int(n) == 1 for n in batch_num_images for _ in range(int(n))]
    return [
        count(image_size=s, grid_pinpoints=config.image_grid_pinpoints, patch_size=side) if cut else 1
        for s, cut in zip(image_sizes, tiled, strict=True)
    ]


def packed(
    model: Any, values: Tensor, image_sizes: Tensor, counts: Sequence[int], newline: Tensor
) -> list[Tensor]:
    """Values of all patches as the model packs its features: [n_i, C] for each image.

    Args:
        model: see `tile_counts`.
        values: [T, P, C] over all images' tiles and their patches.
        image_sizes: [B, 2] height and width, pixels.
        counts: tiles of each image.
        newline: [C], what stands for a newline.
    """
    pack = model.model.pack_image_features
    more = {}
    if "vision_feature_select_strategy" in inspect.signature(pack).parameters:
        more["vision_feature_select_strategy"] = model.config.vision_feature_select_strategy
    out, _ = pack(list(values.split(list(counts))), image_sizes, image_newline=newline, **more)
    return list(out)


def next_geometry(model: Any, image_sizes: Tensor) -> list[Tensor]:
    """For each image, the patch that stands at each packed place, counted over all images' tiles; -1 for a
    newline.

    The base tile's patches come first. An image whose features are their own index goes through the model's
    packing.

    Args:
        model: ``LlavaNextForConditionalGeneration``.
        image_sizes: [B, 2] height and width, pixels.
    """
    counts = tile_counts(model, image_sizes)
    patches = (model.config.vision_config.image_size // model.config.vision_config.patch_size) ** 2
    index = torch.arange(sum(counts) * patches, dtype=torch.float32).view(-1, patches, 1)
    places = packed(model, index, image_sizes, counts, torch.tensor([-1.0]))
    return [p[:, 0].round().long() for p in places]
