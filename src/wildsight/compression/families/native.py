"""Towers that read pictures of any size in one sequence: Pixtral, Mistral 3, and the Qwen-VL line.

Attention stays within a picture, so the attention that a patch receives is summed picture by picture. Blocks
of patches may become one token; the Qwen-VL line lays the patches out block by block, Mistral 3 row by row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.attention_weights import head_attention, query_blocks
from wildsight.compression.families.base import (
    Family,
    Picture,
    blocks,
    encode_with,
    feature_layer,
    plain_picture,
)
from wildsight.compression.image_tokens import ImageView
from wildsight.compression.inputs import Short, positions_of
from wildsight.compression.methods.visual.vtc_cls import layers_up_to
from wildsight.compression.saliency import attention_layers
from wildsight.errors import ConfigError, UnsupportedModelError

PIXTRAL_PIXELS = ("pixel_values", "image_sizes")
QWEN_PIXELS = ("pixel_values", "image_grid_thw")
RULE = "received attention"
Projection = Callable[[Any, Tensor, Mapping[str, Any]], tuple[Tensor, Tensor]]
"""(attention module, its hidden states, its keyword arguments) -> queries and keys ``[N, H, d]``."""


@contextmanager
def watch_received(attention: Any, project: Projection, lengths: Sequence[int]) -> Iterator[list[Tensor]]:
    """Mean attention that each patch receives, ``[N]`` over all pictures, while the tower runs in the block.

    Args:
        attention: the layer's module; None reads nothing.
        project: its queries and keys.
        lengths: patches of each sequence that attends to itself alone.
    """
    found: list[Tensor] = []

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        query, key = project(module, args[0] if args else kwargs["hidden_states"], kwargs)
        parts = zip(query.split(list(lengths)), key.split(list(lengths)), strict=True)
        found.append(torch.cat([_received(q, k, module.scaling) for q, k in parts]))

    if attention is None:
        yield found
        return
    handle = attention.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


def _received(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Mean attention that each token of one picture receives, ``[N, H, d]`` to ``[N]``."""
    q, k = query.transpose(0, 1)[None], key.transpose(0, 1)[None]
    total = torch.zeros(key.shape[0], device=key.device)
    for block in query_blocks(q.shape[1], q.shape[2], k.shape[2]):
        total += head_attention(q[:, :, block], k, None, scaling).mean(dim=1)[0].sum(dim=0)
    return total / key.shape[0]


def _pictures(
    features: Sequence[Tensor], scores: Sequence[Tensor] | None, grids: Sequence[Any], tower: Any,
    deep: Sequence[Sequence[Tensor]] = (),
) -> list[Picture]:  # fmt: skip
    """Pictures of ``features [n_i, D]``; ``deep`` holds those of each later layer, picture by picture."""
    name = type(tower).__name__
    out = []
    for number, (own, grid) in enumerate(zip(features, grids, strict=True)):
        rows = own.new_zeros(0, own.shape[0], dtype=torch.float32)
        rows = rows if scores is None else scores[number][None]
        view = ImageView(own, rows, RULE, None, name)
        out.append(plain_picture(view, grid, deep=tuple(layer[number] for layer in deep)))
    return out


# -- Pixtral, Mistral 3 --------------------------------------------------------------------------------------


def encode_pixtral(model: Any, inputs: Mapping[str, Any], layers: int | None) -> list[Picture]:
    """Pictures row by row; a break stands behind each row, and is text."""
    if inputs.get("image_sizes") is None:
        raise ConfigError("the sizes of the pictures are missing", hint="give image_sizes, of the processor")
    tower = model.model.vision_tower
    sizes = torch.as_tensor(inputs["image_sizes"]).tolist()
    patch, side = int(tower.patch_size), int(getattr(model.config, "spatial_merge_size", 1))
    grids = [(h // patch, w // patch) for h, w in sizes]
    lengths = [h * w for h, w in grids]
    modules = attention_layers(tower)
    layer = None if layers == 0 else modules[layers_up_to(len(modules), feature_layer(model)) - 1]
    with watch_received(layer, _project_pixtral, lengths) as found:
        out = encode_with(model, inputs, PIXTRAL_PIXELS)
    scores = None
    if found:
        parts = zip(found[0].split(lengths), grids, strict=True)
        scores = [s[blocks(*g, side).to(s.device)].mean(dim=1) for s, g in parts]
    merged = [(h // side, w // side) for h, w in grids]
    return _pictures(out.pooler_output, scores, merged, tower)


def _project_pixtral(module: Any, hidden: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    rotate = sys.modules[type(module).__module__].apply_rotary_pos_emb
    query, key = (
        part(hidden).view(*hidden.shape[:2], module.num_heads, -1).transpose(1, 2)
        for part in (module.q_proj, module.k_proj)
    )
    query, key = rotate(query, key, *kwargs["position_embeddings"], unsqueeze_dim=0)
    return query[0].transpose(0, 1), key[0].transpose(0, 1)


PIXTRAL = Family(PIXTRAL_PIXELS, encode_pixtral)


# -- Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5 -----------------------------------------------------------------


def encode_qwen(model: Any, inputs: Mapping[str, Any], layers: int | None) -> list[Picture]:
    """Pictures whose tokens are 2 x 2 patches, with the features that later layers add, where they do."""
    grids, visual = inputs["image_grid_thw"], model.model.visual
    lengths = torch.repeat_interleave(grids[:, 1] * grids[:, 2], grids[:, 0]).tolist()
    layer = None if layers == 0 else _whole_picture_layer(visual)
    with watch_received(layer, _project_qwen, lengths) as found:
        out = encode_with(model, inputs, QWEN_PIXELS)
    counts = [f.shape[0] for f in out.pooler_output]
    scores = None
    if found:
        merged = found[0].view(-1, visual.spatial_merge_size**2).mean(dim=1)
        scores = _in_order(visual, grids, merged).split(counts)
    side = visual.spatial_merge_size
    shapes = [(h // side, w // side) if t == 1 else None for t, h, w in grids.tolist()]
    deep = getattr(out, "deepstack_features", None) or ()
    return _pictures(out.pooler_output, scores, shapes, visual, deep)


def _whole_picture_layer(visual: Any) -> Any:
    """The attention of the last block that sees whole pictures."""
    full = getattr(visual, "fullatt_block_indexes", range(len(visual.blocks)))
    seen = [i for i in full if i < len(visual.blocks)]
    if not seen:
        raise UnsupportedModelError(
            f"{type(visual).__name__} has no block with full attention", hint="use divprune, random or grid"
        )
    return visual.blocks[seen[-1]].attn


def _in_order(visual: Any, grids: Tensor, values: Tensor) -> Tensor:
    """Values of merged tokens in the order of the features; Qwen2.5-VL runs them window by window."""
    if getattr(visual, "window_size", None) is None:
        return values
    from transformers.vision_utils import get_vision_window_index

    order, _ = get_vision_window_index(
        grids,
        spatial_merge_size=visual.spatial_merge_size,
        window_size=visual.window_size,
        patch_size=visual.patch_size,
    )
    return values[torch.argsort(order.to(values.device))]


def _project_qwen(module: Any, hidden: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    qkv = module.qkv(hidden).reshape(hidden.shape[0], 3, module.num_heads, -1)
    rotate = sys.modules[type(module).__module__].apply_rotary_pos_emb_vision
    query, key = rotate(qkv[:, 0], qkv[:, 1], *kwargs["position_embeddings"])
    return query, key


def qwen_positions(model: Any, inputs: Mapping[str, Any], short: Short, mask: Tensor, _how: str) -> Tensor:
    """``[4, B, T']``: compact text positions, then the survivors' own time, height and width."""
    ids = inputs["input_ids"]
    types = inputs.get("mm_token_type_ids")
    types = (ids == model.config.image_token_id).int() if types is None else types
    own, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=types, image_grid_thw=inputs["image_grid_thw"], attention_mask=mask
    )
    text = positions_of(short, mask, "compact")
    return torch.cat([text[None], short.gather(own)])


QWEN = Family((*QWEN_PIXELS, "mm_token_type_ids"), encode_qwen, qwen_positions)
