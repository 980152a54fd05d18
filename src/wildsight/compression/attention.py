"""The attention function that lets layers hold different numbers of keys.

It is registered beside `sdpa` and `eager` through the public interfaces of `transformers`. For a layer of a
`RaggedCache` it gathers the logical mask by the stored columns, calls the stock function, and shows queries
and keys to the layer's scorer while the prompt is read. For everything else it is the stock function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from wildsight.compression.cache_layer import RaggedLayer
from wildsight.compression.handoff import forget, take
from wildsight.errors import UnsupportedModelError

PREFIX = "wildsight_ragged_"
BASES = ("sdpa", "eager")


def as_bool(mask: Tensor | None) -> Tensor | None:
    """An additive or boolean mask as booleans, True where attention is allowed."""
    if mask is None or mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2


def stored_mask(layer: RaggedLayer, mask: Tensor | None, query: Tensor) -> Tensor | None:
    """The mask over a layer's stored columns.

    Args:
        layer: a layer whose prompt has been compressed.
        mask: ``[B, 1, q, seen]`` over logical positions, boolean or additive; None if nothing is masked.
        query: ``[B, H, q, d]``, the last logical positions.

    Returns:
        ``[B, 1 or H, q, stored]``, or None if nothing is masked.
    """
    queries = query.shape[2]
    if mask is None and queries == 1 and layer.even:
        return None
    slots = layer.slots[:, :, None, : layer.width]
    if mask is None:
        last = torch.arange(layer.seen - queries, layer.seen, device=slots.device)
        return _per_head((slots <= last[:, None]) & (slots >= 0), query)
    mask = mask.expand(slots.shape[0], slots.shape[1], -1, -1)
    gathered = mask.gather(-1, slots.clamp_min(0).expand(-1, -1, queries, -1))
    if not layer.even:
        closed = False if gathered.dtype == torch.bool else torch.finfo(gathered.dtype).min
        gathered = gathered.masked_fill(slots < 0, closed)
    return _per_head(gathered, query)


def _per_head(mask: Tensor, query: Tensor) -> Tensor:
    """A mask per key-value head for all query heads of its group."""
    groups = mask.shape[1]
    return mask if groups == 1 else mask.repeat_interleave(query.shape[1] // groups, dim=1)


def ragged_forward(
    base: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> Any:
    """Attention of `transformers`' signature; see the module."""
    stock = stock_function(base, module)
    layer = cast("RaggedLayer | None", take(key))
    if layer is None:
        return stock(module, query, key, value, attention_mask, **kwargs)
    if layer.done:
        mask = stored_mask(layer, attention_mask, query)
        return stock(module, query, key, value, mask, **kwargs)
    output = stock(module, query, key, value, attention_mask, **kwargs)
    layer.observe(query, key, as_bool(attention_mask), kwargs)
    return output


def stock_function(base: str, module: nn.Module) -> Callable[..., Any]:
    """The function that ``base`` stands for in a module's own file.

    Raises:
        UnsupportedModelError: the file has no eager function.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if base != "eager":
        return ALL_ATTENTION_FUNCTIONS[base]
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} has no eager attention function", hint="load the model with sdpa"
        )
    return eager


def register() -> None:
    """Make the names known to `transformers`; done again it changes nothing."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    for base in BASES:
        AttentionInterface.register(PREFIX + base, partial(ragged_forward, base))
        AttentionMaskInterface.register(PREFIX + base, ALL_MASK_ATTENTION_FUNCTIONS[base])


def switch(model: Any) -> Callable[[], None]:
    """Give a model's text part the ragged attention function.

    Returns:
        What undoes it.

    Raises:
        UnsupportedModelError: its attention is neither sdpa nor eager, or cannot be set.
    """
    text = model.config.get_text_config(decoder=True)
    before = text._attn_implementation
    if before not in BASES:
        raise UnsupportedModelError(
            f"{type(model).__name__} runs attention {before!r}", hint=f"load it with {' or '.join(BASES)}"
        )
    register()
    _set(model, text, PREFIX + before)
    if text._attn_implementation != PREFIX + before:
        raise UnsupportedModelError(
            f"the attention of {type(model).__name__} cannot be set", hint="use a model that allows it"
        )
    return lambda: _set(model, text, before)


def _set(model: Any, text: Any, name: str) -> None:
    if text is model.config:
        model.set_attn_implementation(name)
        return
    part = next(key for key in model.config.sub_configs if getattr(model.config, key) is text)
    model.set_attn_implementation({part: name})


@contextmanager
def ragged_attention(model: Any) -> Iterator[None]:
    """Run a model with the ragged attention function inside the block.

    Raises:
        UnsupportedModelError: as `switch`.
    """
    undo = switch(model)
    try:
        yield
    finally:
        forget()
        undo()
