"""Peer: the box as text, digit by digit, as a multimodal model without regression heads gives it.

The answer is `centre x y z size l h w turn yaw` in metres and radians with two decimals, camera coordinates;
``virtual=True`` writes z in the virtual camera. An answer that cannot be read counts as a missing box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wildsight.spatial.boxes import Box
from wildsight.spatial.heads import Boxes3D
from wildsight.spatial.llmi3d import LLMI3DConfig, Sighted
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.tiles import Kept

NONE = "no"
MOST = 64
LIMIT = 1e4


def written(box: Box | None, factor: float = 1.0) -> str:
    """The box as text; its depth is multiplied by ``factor``.

    >>> written(Box.upright((0.1, -1, 5), (4, 1.5, 1.8), 0.3))
    'centre 0.10 -1.00 5.00 size 4.00 1.50 1.80 turn 0.30'
    """
    if box is None:
        return NONE
    x, y, z = (float(v) for v in box.centre)
    numbers = [f"{round(v, 2) + 0.0:.2f}" for v in (x, y, z * factor, *box.size, box.yaw)]
    return f"centre {' '.join(numbers[:3])} size {' '.join(numbers[3:6])} turn {numbers[6]}"


def parsed(text: str, factor: float = 1.0) -> Box | None:
    """The box that a text tells, or None; `written` turned round. Spaces between digits do not matter where a
    number has two decimals.

    >>> parsed("centre 0.10 -1.00 5.00 size 4.00 1.50 1.80 turn 0.30").centre.tolist()
    [0.1, -1.0, 5.0]
    """
    tight = re.sub(r"\s+", "", text)
    number = r"(-?\d{1,5}\.\d\d)"
    match = re.search(rf"centre{number * 3}size{number * 3}turn{number}", tight, re.IGNORECASE)
    if match is None:
        return None
    x, y, z, length, height, width, yaw = (float(v) for v in match.groups())
    z = z / factor
    if (
        z <= 0
        or min(length, height, width) <= 0
        or not all(math.isfinite(v) and abs(v) < LIMIT for v in (x, y, z))
    ):
        return None
    return Box.upright((x, y, z), (length, height, width), yaw)


class TextNumbers(Sighted):
    """The same tokens, enhancer and LoRA; the answer is decoded token by token.

    Args:
        mllm: frozen; LoRA goes into it.
        channels: of the fine map.
        config: hyper-parameters; of the losses ``w_d`` alone.
    """

    numbers = True

    def __init__(self, mllm: Mllm, channels: int, config: LLMI3DConfig) -> None:
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
    def told(self, batch: Mapping[str, Any], keep: Kept | None = None) -> list[str]:
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
        texts = self.told(batch, keep)
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
