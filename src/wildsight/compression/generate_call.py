"""A call of ``generate``, and what earlier calls left in a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wildsight.compression.cache import KVSettings, RaggedCache
from wildsight.compression.encoded import encoded
from wildsight.compression.inputs import running_positions
from wildsight.compression.prune import Pruned
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError

ASSISTED = ("assistant_model", "prompt_lookup_num_tokens", "penalty_alpha")
COLUMN_INPUTS = ("token_type_ids", "mm_token_type_ids")
"""Inputs ``[B, T]`` that say something of each column of the prompt."""


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
        options |= turn.columns
        if turn.features is not None:
            options["mm_encoder_outputs"] = {"image": encoded(turn.features, turn.deep)}
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
        deep: of the same, for each later layer that adds features of its own.
        columns: token types and the like, ``[B, T']``.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    length: int
    features: list[Tensor] | None = None
    deep: list[list[Tensor]] = field(default_factory=list)
    columns: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, pruned: Pruned, length: int) -> Turn:
        """Of prompts with pictures, ``length`` columns long before they were shortened."""
        columns = {k: v for k, v in pruned.rest.items() if k in COLUMN_INPUTS}
        return cls(
            pruned.ids, pruned.mask, pruned.positions, length, pruned.features, pruned.deep, columns
        )  # fmt: skip

    @classmethod
    def of_text(cls, fresh: Mapping[str, Any], pixels: tuple[str, ...]) -> Turn:
        """Of text alone, without those of its inputs that only pictures need."""
        ids, mask = fresh["input_ids"], fresh["attention_mask"]
        columns = {k: v for k, v in fresh.items() if k in COLUMN_INPUTS and k not in pixels}
        return cls(ids, mask, running_positions(mask), ids.shape[1], columns=columns)

    def then(self, new: Turn) -> Turn:
        """This turn with another behind it; positions go on where they ended."""
        names = {**self.columns, **new.columns}
        pairs = {k: [t.columns.get(k, torch.zeros_like(t.ids)) for t in (self, new)] for k in names}
        return Turn(
            torch.cat([self.ids, new.ids], dim=1),
            torch.cat([self.mask, new.mask], dim=1),
            torch.cat([self.positions, self.positions[..., -1:] + 1 + new.positions], dim=-1),
            self.length + new.length,
            new.features,
            new.deep,
            {k: torch.cat(pair, dim=1) for k, pair in pairs.items()},
        )


def split_turn(options: Mapping[str, Any], turn: Turn | None, pixels: tuple[str, ...]) -> dict[str, Any]:
    """The part of a call that no earlier turn has seen.

    Args:
        options: with the whole conversation in ``input_ids``, or with its new part alone where the mask is
            longer.
        turn: what came before.
        pixels: names of the inputs that hold pictures.
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
    names = (*pixels, *COLUMN_INPUTS, "mm_encoder_outputs")
    inputs = {name: options[name] for name in names if options.get(name) is not None}
    inputs |= {k: v[:, -ids.shape[1] :] for k, v in inputs.items() if k in COLUMN_INPUTS}
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
