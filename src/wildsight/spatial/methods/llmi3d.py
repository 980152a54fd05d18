"""LLMI3D: an MLLM that answers with a box in metres, read from one query token, for any focal length.

Paper: "MLLM-based single-image 3D perception" (LLMI3D), arXiv 2408.07422. No code was published, and of the
text only abstract and introduction could be read here; what they leave open is our choice.

Implemented: spatial-enhanced local feature mining (`enhancer`), the learned 3D query token with
regression heads (`heads`), geometry projection with a virtual focal length (`geometry`,
`heads.decode`), LoRA, the joint loss of text and box (`losses`).

Differences and choices:
1. The query tokens stand behind the prompt, not in a generated answer: no decoding step is needed for
a box. The
   answer in words follows them.
2. The fine map comes from a frozen CNN (so that features can be kept), not from one that trains along.
3. Visual tokens may be averaged over ``pool`` x ``pool`` blocks before the language model (``pool=1``: not).
4. ``virtual=False`` regresses metres as they are; ``local=False`` leaves the enhancer out; ``Q`` query
tokens are
   matched to boxes by the least cost where Q > 1; ``geometry`` chooses how depth is found.
5. Sizes, depth and rotation start from the training set's means.
6. ``tune="full"`` trains the whole language model in place of LoRA.
7. The values of the window attention carry the code of depth and viewing direction that its keys carry
   (``placed=False``: they do not).
8. With virtual depth the directions of that code are those of a camera whose focal length is the picture's
   side, so that nothing the network sees changes with the lens (``rays="camera"``: true directions).
9. On a LLaVA-NeXT the base tile is the square picture in which centres, boxes and the camera are told, as on
   any other LLaVA; the model's own preparation stretches it (``fit="stretch"``). Local features are mined
   into its tokens alone: the other tiles are detail already and are read as the model reads them. Geometry
   knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from wildsight.estimators.registry import check_ranges
from wildsight.spatial import losses as L
from wildsight.spatial.heads import GEOMETRIES, Boxes3D, BoxHeads, Readout, decode
from wildsight.spatial.language import COUNT, LanguageMethod, LanguageNet
from wildsight.spatial.methods import METHODS, one_of
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.token_pooling import Kept


@dataclass(frozen=True, kw_only=True)
class QueryMethod(LanguageMethod):
    """LLMI3D, whole or without one of its parts.

    Attributes:
        Q: query tokens, the most boxes in one answer.
        hidden: width of the heads.
        geometry: ``virtual``, ``proj`` or ``fused``.
        pixel_error: standard deviation of the 2D height for ``fused``, pixels.
        w_3d, w_joint, w_2d, w_d, w_text, w_there: weights of the losses.
    """

    Q: int = 1
    hidden: int = 256
    geometry: str = "virtual"
    pixel_error: float = 2.0
    w_3d: float = 1.0
    w_joint: float = 0.5
    w_2d: float = 1.0
    w_text: float = 1.0
    w_there: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, Q=COUNT, hidden=COUNT, geometry=one_of(GEOMETRIES))

    def network(self, mllm: Mllm, channels: int) -> LLMI3DNet:
        """Query tokens behind the prompt, and heads."""
        return LLMI3DNet(mllm, channels, self)


@METHODS.register("llmi3d")
@dataclass(frozen=True, kw_only=True)
class LLMI3D(QueryMethod):
    """LLMI3D with its hyper-parameters."""

    title = "LLMI3D"


@METHODS.register("no-virtual-depth")
@dataclass(frozen=True, kw_only=True)
class NoVirtualDepth(QueryMethod):
    """LLMI3D with metres regressed as they are."""

    title = "LLMI3D without virtual depth"

    virtual: bool = field(default=False, init=False)


@METHODS.register("no-local")
@dataclass(frozen=True, kw_only=True)
class NoLocal(QueryMethod):
    """LLMI3D without the CNN's features."""

    title = "LLMI3D without local features"

    local: bool = field(default=False, init=False)


def assignment(cost: Tensor, valid: Tensor) -> Tensor:
    """For each query token the true box it answers for, [B, Q]; boxes that are not there go to the rest.

    Args:
        cost: [B, Q queries, Q boxes].
        valid: [B, Q boxes], 1 where there is one.
    """
    rows = []
    for one, there in zip(cost.detach().cpu().double().numpy(), valid.cpu().numpy(), strict=True):
        count = int(there.sum())
        queries, boxes = linear_sum_assignment(one[:, :count])
        order = np.full(len(one), -1)
        order[queries] = boxes
        order[order < 0] = np.arange(count, len(one))
        rows.append(torch.from_numpy(order))
    return torch.stack(rows).to(cost.device)


class LLMI3DNet(LanguageNet):
    """The paper's network.

    Attributes:
        queries: [Q, D] the learned 3D query tokens.
    """

    def __init__(self, mllm: Mllm, channels: int, config: QueryMethod) -> None:
        super().__init__(mllm, channels, config)
        self.config: QueryMethod = config
        rows = self.speaker.table.weight.detach().float().cpu()
        self.queries = nn.Parameter(rows.mean(0) + torch.randn(config.Q, mllm.width) * rows.std())
        self.heads = BoxHeads(mllm.width, config.hidden)

    def start_from(self, depth: Tensor, focal: Tensor, size: Tensor) -> None:
        """Set the heads' means from the training boxes: depth [N] metres, fy [N] pixels, size [N, 3]
        metres."""
        seen = depth * self.config.f_v / focal if self.config.virtual else depth
        self.heads.start_from(seen.log(), size.log())

    def _asked(self, batch: Mapping[str, Any], keep: Kept | None = None) -> tuple[list[Any], Tensor]:
        parts, loss = self.prefix(batch, keep)
        query = self.queries.to(parts[0][0].dtype).expand(len(batch["camera"]), -1, -1)
        ones = torch.ones(query.shape[:2], device=query.device)
        return [*parts, (query, ones)], loss

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The joint loss, and its parts."""
        config, ids = self.config, batch["answer"]
        parts, depth_loss = self._asked(batch)
        begin = sum(e.shape[1] for e, _ in parts) - config.Q
        hidden = self.speaker.read([*parts, self.answer_parts(ids[:, :-1])]).last_hidden_state
        readout = self.heads(hidden[:, begin : begin + config.Q])
        found = self._decode(readout, batch["camera"], "virtual")
        order = self._order(readout, found, batch)
        truth = {k: _taken(batch[k], order) for k in ("centre", "size", "rotation", "box2d", "valid")}
        split = L.box_losses(readout, found, **truth, camera=batch["camera"])
        split["text"] = self.answer_loss(hidden[:, begin + config.Q - 1 :], ids)
        split["depth_map"] = depth_loss
        three = split["xy"] + split["z"] + split["size"] + split["rotation"] + config.w_joint * split["joint"]
        total = config.w_3d * three + config.w_2d * split["box2d"] + config.w_there * split["there"]
        total = total + config.w_text * split["text"] + config.w_d * depth_loss
        return {"loss": total, **{k: v.detach() for k, v in split.items()}}

    def _order(self, readout: Readout, found: Boxes3D, batch: Mapping[str, Any]) -> Tensor:
        """Which true box each query token answers for."""
        valid = batch["valid"]
        if self.config.Q == 1:
            return torch.zeros_like(valid, dtype=torch.long)
        flat = (readout.box2d[:, :, None] - batch["box2d"][:, None]).abs().mean(-1)
        deep = (found.centre[:, :, None] - batch["centre"][:, None]).abs().mean(-1)
        near = deep / batch["centre"][:, None, :, 2].clamp_min(1.0)
        return assignment(5 * flat + near - readout.there.sigmoid()[:, :, None], valid)

    def _decode(self, readout: Readout, camera: Tensor, how: str) -> Boxes3D:
        config = self.config
        return decode(readout, camera, self.side, config.f_or_none, how, config.pixel_error)

    @torch.no_grad()
    def boxes(self, batch: Mapping[str, Any], keep: Kept | None = None) -> Boxes3D:
        """Boxes of a batch from one pass, no token decoded."""
        parts, _ = self._asked(batch, keep)
        hidden = self.speaker.read(parts).last_hidden_state[:, -self.config.Q :]
        return self._decode(self.heads(hidden), batch["camera"], self.config.geometry)

    @torch.no_grad()
    def say(self, batch: Mapping[str, Any], end: int, most: int = 16, keep: Kept | None = None) -> Tensor:
        """The answers in words, [B, <= most] tokens."""
        parts, _ = self._asked(batch, keep)
        output = self.speaker.read(parts, cache=True)
        return self.speaker.speak(output, torch.cat([m for _, m in parts], 1), end, most)


def _taken(values: Tensor, order: Tensor) -> Tensor:
    """``values`` [B, Q, ...] in the order [B, Q]."""
    index = order.reshape(*order.shape, *(1,) * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
