"""Running the vision towers of `transformers`: the whole picture, in order, and nothing left changed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.backbones.hub import reason
from wildsight.errors import UnsupportedModelError

REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError)
"""What a network raises on a picture of a size that it cannot take."""


def run_tower(tower: nn.Module, pixels: Tensor, **options: Any) -> Any:
    """A tower's output over whole pictures, with position codes stretched to their size where it can.

    Raises:
        UnsupportedModelError: the tower takes no pictures of this size, or gives no features.
    """
    refuse_masks(tower)
    names = inspect.signature(tower.forward).parameters
    if "interpolate_pos_encoding" in names:
        options["interpolate_pos_encoding"] = True
    try:
        with _unchanged(tower), _unmasked(tower, pixels, options):
            return tower(pixel_values=pixels, **options)
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as error:
        size, own = tuple(pixels.shape[-2:]), own_size(tower)
        if own is None or size == own:
            raise
        raise UnsupportedModelError(
            f"{type(tower).__name__} takes no pictures of {size[0]} x {size[1]} pixels ({reason(error)})",
            hint=f"use {own[0]} x {own[1]}",
        ) from error


def own_size(tower: nn.Module) -> tuple[int, int] | None:
    """(height, width) of the pictures that a tower was made for, pixels; None where it does not say."""
    config: Any = getattr(tower, "config", None)
    size = getattr(config, "image_size", None)
    if size is None:  # SAM says it of its encoder
        size = getattr(getattr(config, "vision_config", None), "image_size", None)
    if size is None:
        size = (getattr(config, "pretrained_cfg", None) or {}).get("input_size", (None,))[1:]
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


@contextmanager
def _unchanged(tower: nn.Module) -> Iterator[None]:
    """Put back what a pass changes for good: the windows of Swin, which shrink with small pictures."""
    layers = [m for m in tower.modules() if hasattr(m, "set_shift_and_window_size")]
    before = [(m, m.window_size, m.shift_size) for m in layers]
    try:
        yield
    finally:
        for layer, window, shift in before:
            layer.window_size, layer.shift_size = window, shift


@contextmanager
def _unmasked(tower: nn.Module, pixels: Tensor, options: dict[str, Any]) -> Iterator[None]:
    """Let a masked autoencoder (ViT-MAE) see every patch, in raster order."""
    embeddings: Any = getattr(tower, "embeddings", None)
    config: Any = getattr(tower, "config", None)
    if not hasattr(embeddings, "random_masking"):
        yield
        return
    patch, share = config.patch_size, config.mask_ratio
    count = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
    options["noise"] = torch.arange(count, device=pixels.device).float().expand(len(pixels), -1)
    config.mask_ratio = 0.0
    try:
        yield
    finally:
        config.mask_ratio = share


def refuse_masks(model: nn.Module) -> None:
    """Refuse a mask model (SAM) where features of pictures are needed.

    Raises:
        UnsupportedModelError: it is one.
    """
    if hasattr(model, "prompt_encoder"):
        what = f"{type(model).__name__} gives masks for boxes and points, no features of pictures"
        raise UnsupportedModelError(what, hint="use it for segmentation, and a DINOv2, CLIP or ResNet here")


def refuse_ragged(tower: nn.Module, name: str) -> None:
    """Refuse a tower that reads pictures as lists of patches of no fixed grid.

    Raises:
        UnsupportedModelError: it is one.
    """
    if "spatial_shapes" in inspect.signature(tower.forward).parameters:
        what = "reads patches of no fixed grid (NaFlex), which is not supported"
        raise UnsupportedModelError(what, where=name, hint="use the model of a fixed resolution")
