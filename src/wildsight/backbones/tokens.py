"""Tokens to maps: which of a transformer's tokens lie on the picture, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from wildsight.errors import UnsupportedModelError


def as_map(hidden: Tensor, pixels: Tensor, patch: int | None) -> Tensor:
    """[B, C, h, w] from a map, or from tokens [B, extra + h*w, C], class and register tokens leading."""
    if hidden.ndim == 4:
        return hidden
    rows, columns = token_grid(hidden.shape[1], pixels, patch)
    return hidden[:, hidden.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


def token_grid(tokens: int, pixels: Tensor, patch: int | None) -> tuple[int, int]:
    """Grid (rows, columns) of the patch tokens among ``tokens``.

    The picture cut into patches of side ``patch``, or, where tokens have been merged since (Swin), the
    largest grid with the picture's aspect that fits.

    Raises:
        UnsupportedModelError: no grid fits.
    """
    height, width = pixels.shape[-2:]
    if patch and 0 < (height // patch) * (width // patch) <= tokens:
        return height // patch, width // patch
    rows = math.isqrt(tokens * height // width)
    while rows and (rows * width % height or rows * (rows * width // height) > tokens):
        rows -= 1
    if not rows:
        raise UnsupportedModelError(f"{tokens} tokens fit no grid", hint="use square pictures")
    return rows, rows * width // height


def channels_first(output: Any) -> Sequence[Tensor]:
    """The hidden states of a network's output; maps as [B, C, h, w], also those of Hiera, [B, h, w, C]."""
    hidden: Sequence[Tensor] = output.hidden_states
    shaped = getattr(output, "reshaped_hidden_states", None)
    if not shaped:
        return hidden
    if len(shaped) != len(hidden) or any(h.ndim != 3 for h in hidden):
        return shaped
    widths = [h.shape[2] for h in hidden]
    if all(s.shape[1] == width for s, width in zip(shaped, widths, strict=True)):
        return shaped
    return [s.permute(0, 3, 1, 2) for s in shaped]


def chain(first: Tensor, blocks: Sequence[nn.Module]) -> Iterator[Tensor]:
    """A stem's map, then the map after each block."""
    yield first
    for block in blocks:
        first = block(first)
        yield first


def pooled(output: Any) -> Tensor:
    """The embedding, bare or inside an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output
