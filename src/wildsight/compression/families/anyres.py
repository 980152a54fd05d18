"""LLaVA-NeXT and LLaVA-OneVision: a base tile, then a grid of tiles with a newline behind each row.

Where a token stands is found by sending other values through the model's own packing: its saliency, its
tile's number, and a mark that only newlines bear. So rows that are cut off, and grids that are shrunk, are
right without being known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wildsight.backbones.anyres import packed, tile_counts
from wildsight.compression.families.base import (
    NEWLINE,
    Family,
    Picture,
    encode_with,
    feature_layer,
    square,
)
from wildsight.compression.image_tokens import ImageView
from wildsight.compression.saliency import Saliency, watch

PIXELS = ("pixel_values", "image_sizes", "batch_num_images")


def encode_anyres(model: Any, inputs: Mapping[str, Any], layers: int | None) -> list[Picture]:
    """Pictures in tiles."""
    tower = model.model.vision_tower
    with watch(tower, feature_layer(model), layers) as found:
        out = encode_with(model, inputs, PIXELS)
    sizes = inputs["image_sizes"]
    counts = tile_counts(model, sizes, inputs.get("batch_num_images"))
    side = model.config.vision_config.image_size // model.config.vision_config.patch_size
    marks = _marks(found, sum(counts), side * side, out.pooler_output[0].device)
    placed = packed(model, marks, sizes, counts, torch.ones(marks.shape[-1], device=marks.device))
    depth, name = len(found.rows), type(tower).__name__
    return [
        _picture(features, values, depth, found.rule, name, side * side)
        for features, values in zip(out.pooler_output, placed, strict=True)
    ]


def _marks(found: Saliency, tiles: int, patches: int, device: torch.device) -> Tensor:
    """``[tiles, patches, 2 + K + d]``: no newline, number of the tile, saliency rows, keys."""
    number = torch.arange(tiles, dtype=torch.float32, device=device).view(-1, 1, 1).expand(-1, patches, 1)
    parts = [torch.zeros_like(number), number, *(r.float()[..., None] for r in found.rows)]
    if found.keys is not None:
        parts.append(found.keys.float())
    return torch.cat([p[:, :patches] for p in parts], dim=-1)


def _picture(features: Tensor, values: Tensor, depth: int, rule: str, tower: str, base: int) -> Picture:
    """One picture; ``values [n, 2 + K + d]`` went the way of its features."""
    real = values[:, 0] == 0
    inside = values[real]
    keys = inside[:, 2 + depth :].to(features.dtype) if values.shape[1] > 2 + depth else None
    view = ImageView(features[real], inside[:, 2 : 2 + depth].T, rule, keys, tower)
    source = torch.where(real, real.long().cumsum(0) - 1, NEWLINE)
    row = (~real).long().cumsum(0) - (~real).long()
    tiles = inside[:, 1].round().long()
    single = int(tiles.max()) == int(tiles.min())
    if not single:
        row[:base] = -1
    return Picture(view, features, source, row, square(inside.shape[0]) if single else None, tiles)


ANYRES = Family(PIXELS, encode_anyres)
