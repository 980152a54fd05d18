"""A call of ``generate``, and what earlier calls left in a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.cache import KVSettings, RaggedCache
from wildsight.compression.inputs import running_positions
from wildsight.compression.prune import Pruned, encoded
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError

ASSISTED = ("assistant_model", "prompt_lookup_num_tokens", "penalty_alpha")
MODEL_INPUTS = ("pixel_values", "image_sizes", "image_grid_thw", "mm_token_type_ids", "pixel_values_videos",
                "mm_encoder_outputs")  # fmt: skip


@dataclass
class Call:
    """Arguments of one call.

    Attributes:
        options: keyword arguments, ``input_ids`` among them.
        configs: where settings that are not arguments stand, first one first.
    """

    options: dict[str, Any]
    configs: tuple[Any, ...] = field(default_factory=tuple)

    @classmethod
    def read(cls, inputs: Tensor | None, kwargs: Mapping[str, Any], default: Any) -> Call:
        """From the arguments of ``generate``."""
        options = dict(kwargs)
        if inputs is not None:
            options["input_ids"] = inputs
        given = (options.get("generation_config"), default)
        return cls(options, tuple(c for c in given if c is not None))

    def setting(self, name: str) -> Any:
        """A generation setting, wherever it was given."""
        if self.options.get(name) is not None:
            return self.options[name]
        values = (getattr(config, name, None) for config in self.configs)
        return next((v for v in values if v is not None), None)

    @property
    def past(self) -> Any:
        """The cache that was given."""
        return self.options.get("past_key_values")

    @property
    def beams(self) -> int:
        """Beams times returned sequences."""
        return int(self.setting("num_beams") or 1) * int(self.setting("num_return_sequences") or 1)

    @property
    def columns(self) -> int | None:
        """Columns of the prompt; None where it is neither ids nor embeddings."""
        for name in ("input_ids", "inputs_embeds"):
            if self.options.get(name) is not None:
                return int(self.options[name].shape[1])
        return None

    def replaced(self, turn: Turn, length: int, pixels: tuple[str, ...]) -> Call:
        """The call with a shortened prompt; total lengths shrink with it."""
        options = {k: v for k, v in self.options.items() if k not in pixels}
        options |= {"input_ids": turn.ids, "attention_mask": turn.mask, "position_ids": turn.positions}
        if turn.features is not None:
            options["mm_encoder_outputs"] = {"image": encoded(turn.features)}
        for name in ("max_length", "min_length"):
            if options.get(name):
                options[name] = max(1, options[name] - (length - turn.ids.shape[1]))
        return Call(options, self.configs)


@dataclass(frozen=True)
class Turn:
    """What a shortened conversation holds so far.

    Attributes:
        ids, mask: ``[B, T']``.
        positions: ``[B, T']`` or ``[4, B, T']``.
        length: columns of the conversation before shortening.
        features: of the pictures that are new in this turn.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    length: int
    features: list[Tensor] | None = None

    @classmethod
    def first(cls, pruned: Pruned, length: int) -> Turn:
        """The first turn."""
        return cls(pruned.ids, pruned.mask, pruned.positions, length, pruned.features)


def joined(turn: Turn, ids: Tensor, mask: Tensor, pruned: Pruned | None, length: int | None = None) -> Turn:
    """A turn with more behind it; positions go on where they ended."""
    after = running_positions(mask) if pruned is None else pruned.positions
    places = turn.positions[..., -1:] + 1 + after
    return Turn(
        torch.cat([turn.ids, ids], dim=1),
        torch.cat([turn.mask, mask], dim=1),
        torch.cat([turn.positions, places], dim=-1),
        turn.length + (ids.shape[1] if length is None else length),
        None if pruned is None else pruned.features,
    )


def split_turn(options: Mapping[str, Any], turn: Turn | None) -> dict[str, Any]:
    """The part of a call that no earlier turn has seen.

    Args:
        options: with the whole conversation in ``input_ids``, or with its new part alone where the mask is
            longer.
        turn: what came before.
    """
    ids, mask = options.get("input_ids"), options.get("attention_mask")
    if ids is None:
        raise ConfigError("pruning needs input_ids", hint="give token ids, not embeddings")
    mask = torch.ones_like(ids) if mask is None else mask
    if turn is not None:
        seen = turn.length
        new_alone = mask.shape[1] > ids.shape[1]
        ids, mask = ids if new_alone else ids[:, seen:], mask[:, seen:]
        if ids.shape[1] < 1 or ids.shape[1] != mask.shape[1]:
            raise ConfigError("the conversation is shorter than what the cache holds", hint="give all of it")
    inputs = {name: options[name] for name in MODEL_INPUTS if options.get(name) is not None}
    return {"input_ids": ids, "attention_mask": mask, **inputs}


def with_prompt(out: Any, prompt: Tensor, length: int) -> Any:
    """Put the prompt as it was given in the place of the shortened one, ``length`` columns long."""
    sequences = getattr(out, "sequences", out)
    rows = prompt.repeat_interleave(sequences.shape[0] // prompt.shape[0], dim=0)
    whole = torch.cat([rows.to(sequences.device), sequences[:, length:]], dim=1)
    if sequences is out:
        return whole
    out.sequences = whole
    return out


def _refuse_assisted(call: Call) -> None:
    for name in ASSISTED:
        if call.setting(name) is not None:
            raise UnsupportedModelError(
                f"{name}: this way of decoding rolls the cache back", hint="use greedy, sampling or beams"
            )


def check_cache_call(call: Call, settings: KVSettings) -> None:
    """Refuse what a compressed cache cannot do.

    Raises:
        BudgetError: the prompt is shorter than the tokens that are never evicted.
        ConfigError: ``use_cache`` is off.
        UnsupportedModelError: another cache, or assisted decoding.
    """
    _refuse_assisted(call)
    kind = call.setting("cache_implementation")
    if kind is not None and kind != "dynamic":
        raise UnsupportedModelError(
            f"cache_implementation={kind!r} and a compressed cache exclude each other", hint="leave it out"
        )
    if call.past is not None and not isinstance(call.past, RaggedCache):
        raise UnsupportedModelError(
            f"a {type(call.past).__name__} cannot be compressed", hint="leave past_key_values out"
        )
    if call.setting("use_cache") is False:
        raise ConfigError("use_cache=False leaves nothing to compress", hint="leave it on, or kv_cache out")
    if call.past is None and call.columns is not None and call.columns < settings.floor:
        raise BudgetError(
            f"a prompt of {call.columns} tokens is shorter than the {settings.floor} that are never evicted",
            hint=f"give a prompt of at least {settings.floor} tokens",
        )
    if isinstance(call.past, RaggedCache) and call.past.prompt_len is None:
        call.past.prompt_len = call.columns


def check_plain_call(call: Call, positions: str) -> None:
    """Refuse what shortened prompts cannot do.

    Raises:
        ConfigError: positions are given, or original positions without a cache.
        UnsupportedModelError: assisted decoding.
    """
    _refuse_assisted(call)
    if call.options.get("position_ids") is not None:
        raise ConfigError("positions are made while pruning", hint="leave position_ids out")
    if positions == "original" and call.setting("use_cache") is False:
        raise ConfigError("original positions need a cache", hint="leave use_cache on, or use compact ones")
