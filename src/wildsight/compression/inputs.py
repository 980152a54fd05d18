"""Shortening a batch of prompts: fewer placeholders, padding on the left, positions of the survivors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.errors import BudgetError, ConfigError

POSITIONS = ("compact", "original")


@dataclass(frozen=True)
class Short:
    """A batch after shortening.

    Attributes:
        ids: ``[B, T']``.
        mask: ``[B, T']`` int64, 0 for padding.
        columns: ``[B, T']`` the column each token had before, -1 for padding.
    """

    ids: Tensor
    mask: Tensor
    columns: Tensor

    def gather(self, values: Tensor) -> Tensor:
        """Values ``[..., B, T]`` of the survivors, 0 for padding: ``[..., B, T']``."""
        index = self.columns.clamp_min(0).expand(*values.shape[:-1], -1)
        return values.gather(-1, index).masked_fill(self.columns < 0, 0)


def placeholder_flags(ids: Tensor, token: int, flags: Sequence[Tensor], model: str) -> Tensor:
    """Which columns stay: all text, and of each image the tokens whose flag is True.

    Args:
        ids: ``[B, T]``.
        token: the placeholder's id.
        flags: one ``[n_i]`` bool per image, in the order of the placeholders over (row, column).
        model: name for the message.

    Raises:
        BudgetError: the prompts hold another number of placeholders than the images have tokens.
    """
    places = ids == token
    total, wanted = int(places.sum()), sum(f.numel() for f in flags)
    if total != wanted:
        raise BudgetError(
            f"{model}: the prompts hold {total} image placeholders, the {len(flags)} images {wanted} tokens",
            hint="make prompts and pictures with the model's processor, and truncate neither",
        )
    stay = torch.ones_like(places)
    if flags:
        stay[places] = torch.cat(list(flags)).to(ids.device)
    return stay


def shorten(ids: Tensor, mask: Tensor, stay: Tensor, pad: int) -> Short:
    """Drop columns, and pad on the left to the longest row.

    Args:
        ids: ``[B, T]``.
        mask: ``[B, T]``, 0 for padding, which is dropped too.
        stay: ``[B, T]`` bool.
        pad: id of the padding.
    """
    kept = stay & mask.bool()
    width = int(kept.sum(dim=1).max())
    order = kept.long().sort(dim=1, stable=True).indices[:, ids.shape[1] - width :]
    real = kept.gather(1, order)
    columns = order.masked_fill(~real, -1)
    return Short(ids.gather(1, order).masked_fill(~real, pad), real.long(), columns)


def running_positions(mask: Tensor) -> Tensor:
    """0, 1, 2, ... over the real tokens of each row; 0 for padding before them."""
    return (mask.long().cumsum(dim=-1) - 1).clamp_min(0)


def positions_of(short: Short, mask: Tensor, how: str) -> Tensor:
    """Positions ``[B, T']`` of the survivors.

    Args:
        short: the shortened batch.
        mask: ``[B, T]`` of the batch before.
        how: ``compact`` counts the survivors, ``original`` keeps the position from before.

    Raises:
        ConfigError: another word.
    """
    if how not in POSITIONS:
        raise ConfigError(f"positions={how!r} is unknown", hint=f"use {' or '.join(POSITIONS)}")
    if how == "compact":
        return running_positions(short.mask)
    return short.gather(running_positions(mask))
