"""Peer: the box as text, digit by digit, as a multimodal model without regression heads gives it.

The answer is `centre x y z size l h w turn yaw` in metres and radians with two decimals, camera coordinates;
``virtual=True`` writes z in the virtual camera. An answer that cannot be read counts as a missing box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wildsight.spatial.box_text import NONE, parsed
from wildsight.spatial.boxes import Box
from wildsight.spatial.heads import Boxes3D
from wildsight.spatial.language import LanguageMethod, LanguageNet
from wildsight.spatial.methods import METHODS
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.token_pooling import Kept

MOST = 64
"""Tokens of an answer."""


@dataclass(frozen=True, kw_only=True)
class TextMethod(LanguageMethod):
    """The box decoded as digits."""

    text = True

    def network(self, mllm: Mllm, channels: int) -> TextNet:
        """The language model alone."""
        return TextNet(mllm, channels, self)


@METHODS.register("text")
@dataclass(frozen=True, kw_only=True)
class Text(TextMethod):
    """Metres as they are."""

    title = "Numbers as text"

    virtual: bool = field(default=False, init=False)


@METHODS.register("text-virtual")
@dataclass(frozen=True, kw_only=True)
class TextVirtual(TextMethod):
    """The depth in the virtual camera."""

    title = "Numbers as text, virtual depth"

    virtual: bool = field(default=True, init=False)


class TextNet(LanguageNet):
    """The same tokens, enhancer and LoRA; the answer is decoded token by token.

    Args:
        mllm: frozen; LoRA goes into it.
        channels: of the fine map.
        config: hyper-parameters; of the losses ``w_d`` alone.
    """

    def __init__(self, mllm: Mllm, channels: int, config: TextMethod) -> None:
        super().__init__(mllm, channels, config)
        self._mllm = [mllm]

    def start_from(self, depth: Tensor, focal: Tensor, size: Tensor) -> None:
        """Nothing: text has no means to start from."""

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The loss of the written numbers."""
        ids = batch["numbers"]
        parts, depth_loss = self.prefix(batch)
        begin = sum(e.shape[1] for e, _ in parts)
        hidden = self.speaker.read([*parts, self.answer_parts(ids[:, :-1])]).last_hidden_state
        hidden = torch.cat((_last(hidden[:, :begin], parts), hidden[:, begin:]), 1)
        text = self.answer_loss(hidden, ids)
        return {"loss": text + self.config.w_d * depth_loss, "text": text.detach()}

    @torch.no_grad()
    def texts(self, batch: Mapping[str, Any], keep: Kept | None = None) -> list[str]:
        """The answers as text."""
        mllm = self._mllm[0]
        parts, _ = self.prefix(batch, keep)
        output = self.speaker.read(parts, cache=True)
        output.last_hidden_state = _last(output.last_hidden_state, parts)
        mask = torch.cat([m for _, m in parts], 1)
        ids = self.speaker.speak(output, mask, int(mllm.tokenizer.eos_token_id), MOST)
        return [mllm.text(row) for row in ids.tolist()]

    @torch.no_grad()
    def boxes(self, batch: Mapping[str, Any], keep: Kept | None = None) -> Boxes3D:
        """Boxes of a batch, score 0 where the text tells none."""
        return self.answers(batch, keep)[0]

    def answers(self, batch: Mapping[str, Any], keep: Kept | None = None) -> tuple[Boxes3D, list[bool]]:
        """The same, and whether each text could be read: it tells a box, or that there is none."""
        texts = self.texts(batch, keep)
        found = self.read_boxes(texts, batch["camera"])
        read = [b is not None or t.strip() == NONE for b, t in zip(found, texts, strict=True)]
        return stacked(found, batch["camera"]), read

    def read_boxes(self, texts: Sequence[str], camera: Tensor) -> list[Box | None]:
        """The boxes of answers."""
        factors = [self.config.f_v / f if self.config.virtual else 1.0 for f in camera[:, 1].tolist()]
        return [parsed(t, f) for t, f in zip(texts, factors, strict=True)]


def stacked(boxes: Sequence[Box | None], like: Tensor) -> Boxes3D:
    """Boxes as tensors of one query each; None is a box of score 0."""
    filler = Box.upright((0, 0, 1), (1, 1, 1), 0)
    rows = [filler if b is None else b for b in boxes]

    def put(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]

    return Boxes3D(
        put([b.centre.tolist() for b in rows]),
        put([b.size.tolist() for b in rows]),
        put([b.rotation.tolist() for b in rows]),
        put([0.0 for _ in rows]),
        put([float(b is not None) for b in boxes]),
    )


def _last(hidden: Tensor, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The hidden state [B, 1, D] of the last token of the question, padding left out."""
    mask = torch.cat([m for _, m in parts], 1)
    places = torch.arange(mask.shape[1], device=mask.device)
    at = ((mask > 0) * places).argmax(1)
    return hidden.gather(1, at[:, None, None].expand(-1, 1, hidden.shape[-1]))
