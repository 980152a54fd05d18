"""Pictures that are encoded before the language model reads them, as `transformers` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling


class TokenLists(list[Tensor]):
    """One ``[n_i, D]`` per image, for models that join them and for models that want one tensor."""

    def to(self, *args: Any) -> Tensor:
        """All of them as one ``[N, D]``, moved as a tensor is."""
        return torch.cat(list(self)).to(*args)


@dataclass
class EncodedPictures(BaseModelOutputWithPooling):
    """Encoded pictures; a list that is put in, as beams do it, can still be read as a tensor.

    Attributes:
        deepstack_features: for each later layer that adds features of its own, one ``[n_i, D]`` per image.
    """

    deepstack_features: list[list[Tensor]] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "pooler_output" and type(value) is list:
            value = TokenLists(value)
        super().__setattr__(name, value)


def encoded(features: Sequence[Tensor], deep: Sequence[Sequence[Tensor]] = ()) -> EncodedPictures:
    """The container that `transformers` reads pre-encoded images from.

    Args:
        features: one ``[n_i, D]`` per image.
        deep: the same for each later layer that adds features of its own.
    """
    layers = [list(layer) for layer in deep]
    return EncodedPictures(pooler_output=TokenLists(features), deepstack_features=layers or None)
