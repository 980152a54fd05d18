"""Towers of one size, whose patches become tokens one by one or in square blocks.

LLaVA, VIP-LLaVA, PaliGemma (a token for each patch), Gemma 3 (blocks are averaged), InternVL, SmolVLM and
Idefics3 (blocks are stacked). A picture is a run of placeholders: InternVL's tiles follow each other in one,
SmolVLM, Idefics3 and Gemma 3 put words between theirs, so that each tile is a picture of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.families.base import (
    Family,
    Picture,
    blocks,
    encode_with,
    feature_layer,
    fitted,
    plain_picture,
    refuse_mismatch,
    rows_of,
    square,
    vision_tower,
)
from wildsight.compression.image_tokens import ImageView
from wildsight.compression.saliency import has_cls, watch
from wildsight.errors import UnsupportedModelError

PIXELS = ("pixel_values", "pixel_attention_mask")


def encode_tiles(model: Any, inputs: Mapping[str, Any], layers: int | None) -> list[Picture]:
    """Pictures of one tile or more."""
    tower = vision_tower(model)
    with watch(tower, feature_layer(model), layers) as found:
        out = encode_with(model, inputs, PIXELS)
    tiles = out.last_hidden_state.shape[0]
    features = torch.cat([f.reshape(-1, f.shape[-1]) for f in out.pooler_output])
    if features.shape[0] % tiles:
        raise refuse_mismatch(f"{features.shape[0]} visual tokens come of {tiles} tiles")
    name = type(tower).__name__
    views = []
    for number, own in enumerate(features.split(features.shape[0] // tiles)):
        keys = None if found.keys is None else found.keys[number]
        rows, keys = merged(rows_of(found, number, own), keys, own.shape[0])
        views.append(ImageView(own, rows, found.rule, keys, name))
    return [_joined(part) for part in _grouped(views, _tiles_in_runs(model, inputs, views))]


def merged(rows: Tensor, keys: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
    """Saliency ``[K, N]`` and keys ``[N, d]`` of ``n`` tokens, the mean over the patches of each.

    Raises:
        UnsupportedModelError: N patches make no ``n`` tokens.
    """
    if not rows.shape[0] or rows.shape[1] in (n, n - 1):
        return fitted(rows, keys, n)
    patches, tokens = square(rows.shape[1]), square(n)
    if patches is None or tokens is None or patches[0] % tokens[0]:
        raise UnsupportedModelError(f"{rows.shape[1]} patches make {n} tokens in a way that is not known")
    index = blocks(*patches, patches[0] // tokens[0]).to(rows.device)
    return rows[:, index].mean(dim=-1), None if keys is None else keys[index].mean(dim=1)


def _tiles_in_runs(model: Any, inputs: Mapping[str, Any], views: list[ImageView]) -> list[int]:
    """How many tiles each picture has: those whose placeholders follow each other; one where runs say
    nothing."""
    single = [1] * len(views)
    ids = inputs.get("input_ids")
    if ids is None:
        return single
    n = views[0].features.shape[0]
    here = torch.nn.functional.pad((ids == model.config.image_token_id).long(), (1, 1)).diff(dim=1)
    starts, ends = (here == 1).nonzero()[:, 1], (here == -1).nonzero()[:, 1]
    runs = (ends - starts).tolist()
    if sum(runs) != n * len(views) or any(r % n for r in runs):
        return single
    return [r // n for r in runs]


def _grouped(views: list[ImageView], counts: list[int]) -> list[list[ImageView]]:
    left = iter(views)
    return [[next(left) for _ in range(count)] for count in counts]


def _joined(views: list[ImageView]) -> Picture:
    """The tiles of one picture in a row."""
    first = views[0]
    if len(views) == 1:
        return plain_picture(first)
    keys = None if first.keys is None else torch.cat([v.keys for v in views if v.keys is not None])
    view = ImageView(
        torch.cat([v.features for v in views]), torch.cat([v.rows for v in views], dim=1), first.rule, keys,
        first.tower,
    )  # fmt: skip
    n = first.features.shape[0]
    tiles = torch.arange(len(views), device=first.features.device).repeat_interleave(n)
    index = torch.arange(n * len(views), device=first.features.device)
    return Picture(view, view.features, index, torch.full_like(index, -1), None, tiles)


def tokens_of_tile(model: Any) -> int | None:
    """Tokens of a tile, from the configuration; None where it does not say so."""
    config, vision = model.config, model.config.vision_config
    if not isinstance(getattr(vision, "image_size", None), int):
        return None
    given = getattr(config, "mm_tokens_per_image", None)
    if given is not None:
        return int(given)
    side = vision.image_size // vision.patch_size // int(getattr(config, "scale_factor", 1))
    whole = getattr(config, "vision_feature_select_strategy", "") == "full"
    return side * side + int(whole and has_cls(vision_tower(model)))


TILES = Family(PIXELS, encode_tiles, tokens=tokens_of_tile)
TOWER = Family(PIXELS, encode_tiles, tokens=tokens_of_tile, inside=True)
"""A token for each patch, before a language model that methods inside it know."""
RUNS = Family(PIXELS, encode_tiles)
"""As many tiles in a run as the picture is cut into."""
PREFIX = Family(PIXELS, encode_tiles, tokens=tokens_of_tile, first=1)
"""PaliGemma: positions begin at 1."""
