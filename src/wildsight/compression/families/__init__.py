"""How each family of models turns pictures into tokens, and where those tokens stand in the prompt.

A kind of merging is a file: `tiles` (towers of one size), `anyres` (tiles with newlines), `native` (pictures
of any size). The table below says which model is of which kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from wildsight.compression.families.anyres import ANYRES
from wildsight.compression.families.base import NEWLINE, Family, Picture, feature_layer, vision_tower
from wildsight.compression.families.native import PIXTRAL, QWEN
from wildsight.compression.families.tiles import PREFIX, RUNS, TILES, TOWER
from wildsight.compression.saliency import attention_layers, layers_to_read
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError
from wildsight.keep import n_keep

FAMILIES: dict[str, Family] = {
    "LlavaForConditionalGeneration": TOWER,
    "VipLlavaForConditionalGeneration": TOWER,
    "LlavaNextForConditionalGeneration": ANYRES,
    "LlavaOnevisionForConditionalGeneration": ANYRES,
    "Qwen2VLForConditionalGeneration": QWEN,
    "Qwen2_5_VLForConditionalGeneration": QWEN,
    "Qwen3VLForConditionalGeneration": QWEN,
    "Qwen3_5ForConditionalGeneration": QWEN,
    "InternVLForConditionalGeneration": RUNS,
    "SmolVLMForConditionalGeneration": TILES,
    "Idefics3ForConditionalGeneration": TILES,
    "Gemma3ForConditionalGeneration": TILES,
    "PaliGemmaForConditionalGeneration": PREFIX,
    "Mistral3ForConditionalGeneration": PIXTRAL,
}


def family_of(model: Any) -> Family:
    """The family of ``model``.

    Raises:
        UnsupportedModelError: none.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in FAMILIES:
            vision = getattr(model.config, "vision_config", None)
            pixtral = getattr(vision, "model_type", "") == "pixtral"
            return PIXTRAL if pixtral else FAMILIES[kind.__name__]
    raise UnsupportedModelError(
        f"{type(model).__name__} {_reason(model)}",
        hint="compress its cache alone, or use a model of the table in the docs of compression",
    )


def _reason(model: Any) -> str:
    """Why the visual tokens of a model that no family fits cannot be pruned."""
    if getattr(model.config, "vision_config", None) is None:
        return "reads no pictures, so that there are no visual tokens to prune"
    if "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
        return "reads its pictures by cross-attention, not as tokens of the prompt"
    return "has visual tokens that this version cannot prune"


def check_tokens(model: Any, keep: int | float) -> None:
    """Refuse a budget that no picture can meet, as far as the number of tokens is known beforehand.

    Raises:
        BudgetError: ``keep`` is outside its range.
        UnsupportedModelError: the model's tokens cannot be pruned.
    """
    tokens = family_of(model).tokens(model)
    if isinstance(keep, int) and not isinstance(keep, bool) and tokens is None:
        if keep < 1:
            raise BudgetError(f"visual_tokens={keep} is below 1", hint="give a count of at least 1")
        return
    try:
        n_keep(1 if tokens is None else tokens, keep)
    except BudgetError as error:
        raise BudgetError(error.what.replace("keep=", "visual_tokens="), hint=error.hint) from None


def check_saliency(model: Any, layers: int) -> None:
    """Refuse more vision layers than lead up to the features that the model uses.

    Raises:
        ConfigError: the tower has fewer.
    """
    tower = vision_tower(model)
    if tower is not None and attention_layers(tower):
        layers_to_read(tower, feature_layer(model), layers)


def refuse_video(inputs: Mapping[str, Any]) -> None:
    """Videos are not pruned.

    Raises:
        ConfigError: the inputs hold one.
    """
    if inputs.get("pixel_values_videos") is not None:
        raise ConfigError("visual_tokens does not prune videos", hint="compress the cache alone")


__all__ = [
    "FAMILIES",
    "NEWLINE",
    "Family",
    "Picture",
    "check_saliency",
    "check_tokens",
    "family_of",
    "refuse_video",
]
