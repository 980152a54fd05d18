"""The Qwen-VL line as the spatial methods read it: a square picture, its blocks of patches as tokens.

A token is what the tower hands to the language model for one block: the patches' states side by side, which
the merger projects, and behind them the features that the first layers of a Qwen3-VL add (deepstack).
Positions are those of the model itself: time, height and width within the picture, one number in the text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NATIVE = (
    "Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen3VLForConditionalGeneration"
)  # fmt: skip
SIDE = 448
"""Largest side of a picture, pixels, where the processor allows more."""


def unit(model: Any) -> int:
    """Side of a token's block, pixels."""
    return int(model.config.vision_config.patch_size) * int(model.model.visual.spatial_merge_size)


def picture_side(model: Any, pictures: Any) -> int:
    """Side of the square that every picture is fitted into: whole blocks, within what the processor allows.

    Args:
        model: one of `NATIVE`.
        pictures: its image processor.
    """
    most = getattr(pictures, "max_pixels", None) or dict(pictures.size or {}).get("longest_edge") or SIDE**2
    block = unit(model)
    return max(1, int(min(most, SIDE**2) ** 0.5) // block) * block


def widths(model: Any) -> tuple[int, int]:
    """Width of the states that become one token, and of the features that later layers add."""
    vision = model.config.vision_config
    states = int(getattr(vision, "embed_dim", None) or vision.hidden_size)
    layers = len(getattr(vision, "deepstack_visual_indexes", None) or ())
    return states * unit_patches(model), layers * int(model.config.text_config.hidden_size)


def unit_patches(model: Any) -> int:
    """Patches of a token."""
    return int(model.model.visual.spatial_merge_size) ** 2


def patches_of(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, S, S] as the processor lays them out, [N, C T p p] block by block, and their grids
    [B, 3]."""
    vision = model.config.vision_config
    p, m = int(vision.patch_size), int(vision.spatial_merge_size)
    times = int(vision.temporal_patch_size)
    b, c, side, _ = pixels.shape
    blocks = side // (p * m)
    cut = pixels.reshape(b, c, blocks, m, p, blocks, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
    flat = cut.unsqueeze(6).expand(*cut.shape[:6], times, p, p).reshape(-1, c * times * p * p)
    grid = torch.tensor([[1, blocks * m, blocks * m]] * b, device=pixels.device)
    return flat, grid


def see(model: Any, pixels: Tensor) -> Tensor:
    """Tokens [B, N, W] of pictures [B, 3, S, S], before the merger; W is the sum of `widths`."""
    flat, grid = patches_of(model, pixels)
    visual = model.model.visual
    out = visual(flat, grid_thw=grid, return_dict=True)
    tokens = out.last_hidden_state.reshape(-1, widths(model)[0])
    if getattr(visual, "window_size", None) is not None:
        from transformers.vision_utils import get_vision_window_index

        order, _ = get_vision_window_index(
            grid,
            spatial_merge_size=visual.spatial_merge_size,
            window_size=visual.window_size,
            patch_size=visual.patch_size,
        )
        tokens = tokens[torch.argsort(order.to(tokens.device))]
    deep = getattr(out, "deepstack_features", None) or ()
    return torch.cat([tokens, *deep], dim=-1).unflatten(0, (len(pixels), -1))


def project(model: Any, tokens: Tensor) -> Tensor:
    """Tokens [B, N, W] as the language model reads them, [B, N, D], the later layers' features behind."""
    first, _ = widths(model)
    states = tokens[..., :first].reshape(-1, first // unit_patches(model))
    merged = model.model.visual.merger(states).unflatten(0, tokens.shape[:2])
    return torch.cat([merged, tokens[..., first:]], dim=-1)


def positions(places: Tensor, before: int, grid: int) -> Tensor:
    """[4, B, T]: running positions, then time, height and width.

    Args:
        places: [B, T] running positions of the question, the picture, and what follows.
        before: tokens before the picture.
        grid: tokens along a side of the picture.

    >>> positions(torch.arange(6)[None], 1, 2)[:, 0].tolist()
    [[0, 1, 2, 3, 4, 5], [0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]]
    """
    number = torch.arange(grid * grid, device=places.device)
    inside = torch.stack([number * 0, number // grid, number % grid]) + before
    rest = places[:, before + grid * grid :] + shift(grid)
    axes = [torch.cat([places[:, :before], axis.expand(len(places), -1), rest], dim=1) for axis in inside]
    return torch.stack([places, *axes])


def shift(grid: int) -> int:
    """How far the position of what follows a picture lies from its running number: a side, not an area."""
    return grid - grid * grid
