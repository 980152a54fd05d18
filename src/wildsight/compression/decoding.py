"""One more token through a model and its cache: the only decoding loop of this task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Decoder:
    """Where decoding stands; a deep copy goes on by itself.

    Attributes:
        cache: what has been read.
        place: ``[..., B, 1]`` position of the last token.
        mask: ``[B, n]`` over all that has been read, 0 for padding; None where nothing is padded.
    """

    cache: Any
    place: Tensor
    mask: Tensor | None = None

    @torch.no_grad()
    def step(self, model: Any, tokens: Tensor) -> Tensor:
        """Read one more token per row.

        Args:
            model: a model of `transformers`.
            tokens: ``[B]``.

        Returns:
            ``[B, V]`` float32 logits behind it.
        """
        self.place = self.place + 1
        known = {}
        if self.mask is not None:
            self.mask = known["attention_mask"] = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        out = model(
            input_ids=tokens[:, None], position_ids=self.place, past_key_values=self.cache, use_cache=True,
            **known,
        )  # fmt: skip
        logits: Tensor = out.logits[:, -1].float()
        return logits
