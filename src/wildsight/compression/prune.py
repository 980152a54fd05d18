"""From a model's usual inputs to shorter ones: encode, score, select, shorten."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from wildsight.compression import defaults
from wildsight.compression.encoded import encoded
from wildsight.compression.families import Family, Picture, family_of, refuse_video
from wildsight.compression.image_tokens import Selection
from wildsight.compression.inputs import Short, placeholder_flags, shorten
from wildsight.compression.methods.visual.base import SELECTORS, VisualMethod, VisualSelector
from wildsight.errors import BudgetError, ConfigError
from wildsight.keep import n_keep


@dataclass(frozen=True)
class Pruned:
    """A shortened batch.

    Attributes:
        ids, mask: ``[B, T']``, padded on the left.
        positions: ``[B, T']``, or ``[4, B, T']`` for rotary embeddings in time, height and width.
        columns: ``[B, T']`` the column each token had before, -1 for padding.
        features: what stands at the placeholders, one ``[n_i, D]`` per image.
        deep: for each later layer that adds features of its own, the same.
        pictures: the images before pruning.
        selections: what was chosen of each.
        rest: the other inputs; what runs along the columns is shortened with them.
        seconds: time that scoring and selecting took, encoding left out.
        first: position of a prompt's first token as ``forward`` takes it.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    columns: Tensor
    features: list[Tensor]
    pictures: list[Picture]
    selections: list[Selection]
    rest: Mapping[str, Any]
    seconds: float = 0.0
    deep: list[list[Tensor]] = field(default_factory=list)
    first: int = 0

    def encoded(self) -> Any:
        """What `transformers` reads the pictures from: made anew for every call, for beams change it."""
        return encoded(self.features, self.deep)

    def inputs(self, *, generate: bool = False) -> dict[str, Any]:
        """Inputs for ``forward``, or for ``generate``, which counts positions from 0."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "position_ids": self.positions if generate else self.positions + self.first,
            "mm_encoder_outputs": {"image": self.encoded()},
            **self.rest,
        }


def pad_id(model: Any) -> int:
    """The padding's id: the model's, or 0 where it has none (masked in any case)."""
    given = model.generation_config.pad_token_id if model.can_generate() else None
    return int(given) if isinstance(given, int) else 0


def image_count(count: int, keep: int | float, *, fixed: bool) -> int:
    """Tokens kept of an image that has ``count``.

    Raises:
        BudgetError: ``keep`` is outside its range.
    """
    if isinstance(keep, int) and not isinstance(keep, bool) and keep > count and not fixed:
        return count
    return n_keep(count, keep)


def selector_of(method: str | VisualMethod, options: Mapping[str, Any] | None = None) -> VisualSelector:
    """The selector of a name, or a selector as it is.

    Raises:
        ConfigError: there is none, or it chooses inside the language model.
    """
    found = SELECTORS.create(method, options)
    if not isinstance(found, VisualSelector):
        raise ConfigError(
            f"{found.name} drops tokens inside the language model", hint="give it to compress() as visual"
        )
    return found


def select_tokens(
    picture: Picture, keep: int | float, method: VisualSelector, seed: int, *, fixed: bool
) -> Selection:
    """Choose tokens of one picture; all of them are chosen without asking the method."""
    n = picture.view.features.shape[0]
    count = image_count(n, keep, fixed=fixed)
    if count == n:
        return Selection(torch.arange(n, device=picture.features.device))
    return method.select(replace(picture.view, seed=seed), count)


def select_per_tile(picture: Picture, keep: int | float, method: VisualSelector, seed: int) -> Selection:
    """Choose from each tile of a picture on its own; a count is dealt out evenly, a share holds for each."""
    if picture.tiles is None:
        return select_tokens(picture, keep, method, seed, fixed=False)
    tiles = picture.tiles.unique()
    counts: list[int | float] = [keep] * tiles.numel()
    if isinstance(keep, int):
        counts = [max(1, keep // tiles.numel() + (i < keep % tiles.numel())) for i in range(tiles.numel())]
    kept, features = [], picture.view.features.clone()
    for tile, count in zip(tiles, counts, strict=True):
        inside = (picture.tiles == tile).nonzero()[:, 0]
        view = picture.view.part(inside)
        own = select_tokens(replace(picture, view=view), count, method, seed, fixed=False)
        kept.append(inside[own.keep])
        if own.features is not None:
            features[kept[-1]] = own.features.to(features.dtype)
    chosen = torch.cat(kept).sort().values
    return Selection(chosen, features[chosen])


def _checked(model: Any, inputs: Mapping[str, Any], *, given: bool) -> Tensor:
    refuse_video(inputs)
    ids = inputs.get("input_ids")
    if ids is None:
        raise ConfigError("pruning needs input_ids", hint="give token ids, not embeddings")
    if inputs.get("mm_encoder_outputs"):
        raise ConfigError("give pixels or encoded images, not both", hint="leave mm_encoder_outputs out")
    if inputs.get("pixel_values") is None and not given:
        raise BudgetError(f"{type(model).__name__}: no pictures to prune", hint="give pixel_values")
    return ids


@torch.no_grad()
def prune_visual_tokens(
    model: Any,
    inputs: Mapping[str, Any],
    keep: int | float = 128,
    method: str | VisualSelector = defaults.SELECTOR,
    *,
    options: Mapping[str, Any] | None = None,
    positions: str = defaults.POSITIONS,
    newlines: str = "row",
    budget: str = "global",
    seed: int = 0,
    encoded_pictures: Sequence[Picture] | None = None,
) -> Pruned:
    """Shorten a batch of prompts with pictures.

    Args:
        model: of a family in `wildsight.compression.families.FAMILIES`.
        inputs: what the model's processor gives; not changed.
        keep: tokens per image, or a share in (0, 1] of them.
        method: a name from `wildsight.compression.methods.visual.base.SELECTORS`, or a selector.
        options: parameters of the selector, by name.
        positions: ``compact`` or ``original``; rotary positions in two dimensions are always original.
        newlines: LLaVA-NeXT's separators: ``row`` keeps one whose row kept a token, ``all`` or ``none``;
            they do not count as tokens.
        budget: of a picture in tiles: ``global`` chooses over all of it, ``per_tile`` deals the budget out.
        seed: for methods that draw; image i draws with ``seed + i``.
        encoded_pictures: the pictures, encoded before; then ``inputs`` needs no pixels, and each picture
            draws with its view's own seed.

    Raises:
        BudgetError: ``keep`` out of range, no pictures, or placeholders that do not match them.
        ConfigError: an unknown method or word.
        UnsupportedModelError: the model or its tower cannot be pruned by this method.
    """
    family = family_of(model)
    chooser = selector_of(method, options)
    if budget not in ("global", "per_tile"):
        raise ConfigError(f"budget={budget!r} is unknown", hint="use global or per_tile")
    ids = _checked(model, inputs, given=encoded_pictures is not None)
    given = inputs.get("attention_mask")
    mask = torch.ones_like(ids) if given is None else given
    if mask.shape != ids.shape:
        raise ConfigError(
            f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}",
            hint="make them equal",
        )
    pictures = list(encoded_pictures or family.encode(model, inputs, chooser.saliency_layers))
    seeds = [p.view.seed if encoded_pictures else seed + i for i, p in enumerate(pictures)]
    begin = time.perf_counter()
    chosen = [
        select_per_tile(p, keep, chooser, s)
        if budget == "per_tile"
        else select_tokens(p, keep, chooser, s, fixed=family.tokens(model) is not None)
        for p, s in zip(pictures, seeds, strict=True)
    ]
    flags = [p.flags(s.keep, newlines) for p, s in zip(pictures, chosen, strict=True)]
    deep = [
        [f[own] for f, own in zip(layer, flags, strict=True)]
        for layer in zip(*(p.deep for p in pictures), strict=True)
    ]
    spent = time.perf_counter() - begin
    stay = placeholder_flags(ids, model.config.image_token_id, flags, type(model).__name__)
    short = shorten(ids, mask, stay, pad_id(model))
    features = [_kept(p, s, f) for p, s, f in zip(pictures, chosen, flags, strict=True)]
    used = {"input_ids", "attention_mask", "position_ids", *family.pixels}
    rest = {k: _shortened(v, short, ids) for k, v in inputs.items() if k not in used}
    place = family.positions(model, inputs, short, mask, positions)
    return Pruned(
        short.ids, short.mask, place, short.columns, features, pictures, chosen, rest, spent, deep,
        family.first,
    )  # fmt: skip


def _shortened(value: Any, short: Short, ids: Tensor) -> Any:
    """What runs along the columns, such as token types, for the columns that stay."""
    along = isinstance(value, Tensor) and value.shape == ids.shape
    return short.gather(value) if along else value


def _kept(picture: Picture, selection: Selection, flags: Tensor) -> Tensor:
    """The features that stay, in place of which merged ones come where a method merges."""
    if selection.features is None:
        return picture.features[flags]
    changed = picture.features.clone()
    inside = (picture.source >= 0).nonzero()[:, 0]
    changed[inside[selection.keep]] = selection.features.to(changed.dtype)
    return changed[flags]


__all__ = ["Family", "Pruned", "encoded", "prune_visual_tokens"]
