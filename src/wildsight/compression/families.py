"""How each family of models turns pictures into tokens, and where those tokens stand in the prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wildsight.backbones.anyres import next_geometry
from wildsight.compression.attention_weights import head_attention, query_blocks
from wildsight.compression.image_tokens import ImageView
from wildsight.compression.inputs import Short, positions_of
from wildsight.compression.saliency import Saliency, has_cls, layers_to_read, watch
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError
from wildsight.keep import n_keep

NEWLINE = -1


@dataclass(frozen=True)
class Picture:
    """One image as it enters the prompt.

    Attributes:
        view: what the selector sees: its tokens without separators.
        features: ``[n, D]`` with separators.
        source: ``[n]`` index into the view, `NEWLINE` for a separator.
        row: ``[n]`` the grid row that a token ends or stands in; -1 outside the grid.
        grid: (rows, columns) of the view's tokens where they form one grid.
        tiles: the tile that each of the view's tokens comes from; None for one tile.
    """

    view: ImageView
    features: Tensor
    source: Tensor
    row: Tensor
    grid: tuple[int, int] | None
    tiles: Tensor | None = None

    def flags(self, keep: Tensor, newlines: str = "row") -> Tensor:
        """``[n]`` bool: the tokens that stay when the view's tokens ``keep`` do.

        Args:
            keep: indices into the view.
            newlines: ``row`` keeps a separator whose row kept a token, ``all`` every one, ``none`` no one.
        """
        chosen = torch.zeros(self.view.features.shape[0] + 1, dtype=torch.bool, device=self.source.device)
        chosen[keep] = True
        stay = chosen[self.source]
        ends = self.source == NEWLINE
        if newlines == "row" and bool(ends.any()):
            alive = torch.isin(self.row, self.row[stay & (self.row >= 0)])
            return stay | (ends & alive)
        return stay | ends if newlines == "all" else stay & ~ends


@dataclass(frozen=True)
class Family:
    """What a class of models needs.

    Attributes:
        pixels: names of the inputs that are used up by encoding.
        encoder: (model, inputs, vision layers whose saliency is read) -> pictures in the order of the
            placeholders.
        positions: (model, inputs, shortened batch, mask before, how) -> position ids.
        fixed: every image has the same number of tokens, so that a count above it is a mistake.
    """

    pixels: tuple[str, ...]
    encoder: Callable[[Any, Mapping[str, Any], int | None], list[Picture]]
    positions: Callable[[Any, Mapping[str, Any], Short, Tensor, str], Tensor]
    fixed: bool

    def encode(self, model: Any, inputs: Mapping[str, Any], layers: int | None = None) -> list[Picture]:
        """Encode the pictures of a batch, and read what their saliency is made of.

        Args:
            model: of this family.
            inputs: of its processor.
            layers: vision layers whose saliency is read, `VisualMethod.saliency_layers`; None reads all that
                lead up to the features.

        Raises:
            ConfigError: the tower has fewer.
        """
        return self.encoder(model, inputs, layers)


def _running(_model: Any, _inputs: Mapping[str, Any], short: Short, mask: Tensor, how: str) -> Tensor:
    return positions_of(short, mask, how)


def square(n: int) -> tuple[int, int] | None:
    """The square grid of ``n`` tokens, or None."""
    side = round(n**0.5)
    return (side, side) if side * side == n else None


def _feature_layer(model: Any) -> int:
    layer = model.config.vision_feature_layer
    return int(layer) if isinstance(layer, int) else int(layer[-1])


def plain_picture(view: ImageView) -> Picture:
    """An image without separators."""
    n = view.features.shape[0]
    index = torch.arange(n, device=view.features.device)
    return Picture(view, view.features, index, torch.full_like(index, -1), square(n))


def fitted(rows: Tensor, keys: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
    """Saliency rows ``[K, N]`` for ``n`` tokens: one more than N means that [CLS] itself is a token."""
    if rows.shape[0] and rows.shape[1] + 1 == n:
        return torch.cat([rows.amax(dim=1, keepdim=True), rows], dim=1), None
    return rows, keys


def _encode_llava(model: Any, inputs: Mapping[str, Any], layers: int | None) -> list[Picture]:
    tower = model.model.vision_tower
    if tower.config.model_type == "pixtral":
        raise UnsupportedModelError("the Pixtral tower has images of many sizes", hint="use a CLIP tower")
    with watch(tower, _feature_layer(model), layers) as found:
        out = model.model.get_image_features(pixel_values=inputs["pixel_values"], return_dict=True)
    return [
        plain_picture(_view(f, found, number, type(tower).__name__))
        for number, f in enumerate(out.pooler_output)
    ]


def _view(features: Tensor, found: Saliency, number: int, tower: str) -> ImageView:
    rows = [row[number] for row in found.rows]
    joined = torch.stack(rows) if rows else features.new_zeros(0, features.shape[0], dtype=torch.float32)
    keys = None if found.keys is None else found.keys[number]
    joined, keys = fitted(joined, keys, features.shape[0])
    return ImageView(features, joined, found.rule, keys, tower)


def _encode_next(model: Any, inputs: Mapping[str, Any], layers: int | None) -> list[Picture]:
    tower = model.model.vision_tower
    sizes = inputs["image_sizes"]
    with watch(tower, _feature_layer(model), layers) as found:
        out = model.model.get_image_features(inputs["pixel_values"], sizes, return_dict=True)
    maps = next_geometry(model, sizes)
    device = out.pooler_output[0].device
    patches = (model.config.vision_config.image_size // model.config.vision_config.patch_size) ** 2
    rows = torch.stack([r.flatten() for r in found.rows]) if found.rows else torch.zeros(0, 0, device=device)
    keys = None if found.keys is None else found.keys.flatten(0, 1)
    return [
        _packed(features, places.to(device), rows, keys, found.rule, patches, type(tower).__name__)
        for features, places in zip(out.pooler_output, maps, strict=True)
    ]


def _packed(
    features: Tensor, places: Tensor, rows: Tensor, keys: Tensor | None, rule: str, patches: int, tower: str
) -> Picture:
    """A picture of LLaVA-NeXT: a base tile, then the grid of tiles with a newline after each row."""
    real = places >= 0
    inside = places[real]
    saliency = rows[:, inside] if rows.shape[0] else rows.new_zeros(0, inside.numel())
    view = ImageView(features[real], saliency, rule, None if keys is None else keys[inside], tower)
    source = torch.where(real, real.long().cumsum(0) - 1, NEWLINE)
    row = (~real).long().cumsum(0) - (~real).long()
    if int(inside.max()) - int(inside.min()) >= patches:
        row[:patches] = -1
    return Picture(view, features, source, row, square(inside.numel()), inside // patches)


def _encode_qwen(model: Any, inputs: Mapping[str, Any], _layers: int | None) -> list[Picture]:
    grids = inputs["image_grid_thw"]
    visual = model.model.visual
    with _watch_qwen(visual) as found:
        out = model.model.get_image_features(inputs["pixel_values"], grids, return_dict=True)
    order = _window_order(visual, grids).to(found.rows[0].device)
    unit = visual.spatial_merge_size**2
    merged = found.rows[0].view(-1, unit).mean(dim=1)[torch.argsort(order)]
    pictures = []
    side = visual.spatial_merge_size
    scores = merged.split([f.shape[0] for f in out.pooler_output])
    for features, score, grid in zip(out.pooler_output, scores, grids.tolist(), strict=True):
        view = ImageView(features, score[None], "received attention", None, type(visual).__name__)
        shape = (grid[1] // side, grid[2] // side) if grid[0] == 1 else None
        pictures.append(replace(plain_picture(view), grid=shape))
    return pictures


def _window_order(visual: Any, grids: Tensor) -> Tensor:
    from transformers.vision_utils import get_vision_window_index

    order, _ = get_vision_window_index(
        grids,
        spatial_merge_size=visual.spatial_merge_size,
        window_size=visual.window_size,
        patch_size=visual.patch_size,
    )
    return order


class _watch_qwen:
    """Received attention in the last block that sees a whole picture, in the tower's own order."""

    def __init__(self, visual: Any) -> None:
        full = [i for i in visual.fullatt_block_indexes if i < len(visual.blocks)]
        if not full:
            raise UnsupportedModelError(
                f"{type(visual).__name__} has no block with full attention",
                hint="use divprune, random or grid",
            )
        self.attention = visual.blocks[full[-1]].attn
        self.found = Saliency("received attention", [])

    def __enter__(self) -> Saliency:
        self.handle = self.attention.register_forward_pre_hook(self._hook, with_kwargs=True)
        return self.found

    def __exit__(self, *_error: object) -> None:
        self.handle.remove()

    def _hook(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        qkv = module.qkv(hidden).reshape(hidden.shape[0], 3, module.num_heads, -1)
        rotate = sys.modules[type(module).__module__].apply_rotary_pos_emb_vision
        query, key = rotate(qkv[:, 0], qkv[:, 1], *kwargs["position_embeddings"])
        lengths = kwargs["cu_seqlens"].diff().tolist()
        parts = zip(query.split(lengths), key.split(lengths), strict=True)
        self.found.rows.append(torch.cat([_received_heads(q, k, module.scaling) for q, k in parts]))


def _received_heads(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Mean attention that each token of one picture receives, ``[N, H, d]`` to ``[N]``."""
    q, k = query.transpose(0, 1)[None], key.transpose(0, 1)[None]
    total = torch.zeros(key.shape[0], device=key.device)
    for block in query_blocks(q.shape[1], q.shape[2], k.shape[2]):
        total += head_attention(q[:, :, block], k, None, scaling).mean(dim=1)[0].sum(dim=0)
    return total / key.shape[0]


def _qwen_positions(model: Any, inputs: Mapping[str, Any], short: Short, mask: Tensor, _how: str) -> Tensor:
    """``[4, B, T']``: compact text positions, then the survivors' own time, height and width."""
    ids = inputs["input_ids"]
    types = inputs.get("mm_token_type_ids")
    types = (ids == model.config.image_token_id).int() if types is None else types
    own, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=types, image_grid_thw=inputs["image_grid_thw"], attention_mask=mask
    )
    text = positions_of(short, mask, "compact")
    return torch.cat([text[None], short.gather(own)])


FAMILIES: dict[str, Family] = {
    "LlavaForConditionalGeneration": Family(("pixel_values",), _encode_llava, _running, True),
    "LlavaNextForConditionalGeneration": Family(
        ("pixel_values", "image_sizes"), _encode_next, _running, False
    ),
    "Qwen2_5_VLForConditionalGeneration": Family(
        ("pixel_values", "image_grid_thw", "mm_token_type_ids"), _encode_qwen, _qwen_positions, False
    ),
}


def family_of(model: Any) -> Family:
    """The family of ``model``.

    Raises:
        UnsupportedModelError: none.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__]
    raise UnsupportedModelError(
        f"{type(model).__name__} has visual tokens that this version cannot prune",
        hint=f"use one of {', '.join(FAMILIES)}, or compress its cache alone",
    )


def check_tokens(model: Any, keep: int | float) -> None:
    """Refuse a budget that no picture can meet, as far as the number of tokens is known beforehand.

    Raises:
        BudgetError: ``keep`` is outside its range.
        UnsupportedModelError: the model's tokens cannot be pruned.
    """
    fixed, vision = family_of(model).fixed, getattr(model.config, "vision_config", None)
    if isinstance(keep, int) and not isinstance(keep, bool) and not fixed:
        if keep < 1:
            raise BudgetError(f"visual_tokens={keep} is below 1", hint="give a count of at least 1")
        return
    whole = getattr(model.config, "vision_feature_select_strategy", "") == "full"
    tokens = 1
    if fixed and vision is not None and isinstance(vision.image_size, int):
        extra = int(whole and has_cls(model.model.vision_tower))
        tokens = (vision.image_size // vision.patch_size) ** 2 + extra
    try:
        n_keep(tokens, keep)
    except BudgetError as error:
        raise BudgetError(error.what.replace("keep=", "visual_tokens="), hint=error.hint) from None


def check_saliency(model: Any, layers: int) -> None:
    """Refuse more vision layers than lead up to the features that the model uses.

    Raises:
        ConfigError: the tower has fewer.
    """
    tower = getattr(model.model, "vision_tower", None)
    if tower is not None:
        layers_to_read(tower, _feature_layer(model), layers)


def refuse_video(inputs: Mapping[str, Any]) -> None:
    """Videos are not pruned.

    Raises:
        ConfigError: the inputs hold one.
    """
    if inputs.get("pixel_values_videos") is not None:
        raise ConfigError("visual_tokens does not prune videos", hint="compress the cache alone")
