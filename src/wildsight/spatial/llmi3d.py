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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.errors import ConfigError
from wildsight.spatial import losses as L
from wildsight.spatial.enhancer import SpatialEnhancer
from wildsight.spatial.geometry import F_VIRTUAL
from wildsight.spatial.heads import GEOMETRIES, Boxes3D, BoxHeads, Readout, decode
from wildsight.spatial.mllm import Mllm, Speaker, Trained, add_lora
from wildsight.spatial.tiles import NEWLINE, NOTHING, TOKEN, Kept, pooled, thinned

TUNES = ("lora", "full")
RAYS = ("virtual", "camera")


@dataclass(frozen=True)
class LLMI3DConfig:
    """Hyper-parameters.

    Attributes:
        Q: query tokens, the most boxes in one answer.
        r, alpha, dropout: LoRA's rank, scale and dropout.
        targets: the projections that LoRA goes beside.
        tune: ``lora``, or ``full``: the whole language model trains, for one that knows nothing yet.
        virtual: whether depth is regressed in the virtual camera.
        f_v: its focal length, pixels.
        local: whether visual tokens look at fine features.
        placed: whether the values of that attention carry depth and viewing direction, as its keys do.
        rays: the code's viewing directions: ``virtual`` (of the virtual camera) or ``camera``.
        d: width of that attention.
        K_d, z_min, z_max: bins of the depth predictor and their range, metres in the virtual camera.
        pool: visual tokens are averaged over blocks of pool x pool.
        hidden: width of the heads.
        geometry: ``virtual``, ``proj`` or ``fused``.
        pixel_error: standard deviation of the 2D height for ``fused``, pixels.
        w_3d, w_joint, w_2d, w_d, w_text, w_there: weights of the losses.
        threshold: score below which nothing is said to be there.
    """

    Q: int = 1
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    tune: str = "lora"
    virtual: bool = True
    f_v: float = F_VIRTUAL
    local: bool = True
    placed: bool = True
    rays: str = "virtual"
    d: int = 64
    K_d: int = 64
    z_min: float = 0.5
    z_max: float = 80.0
    pool: int = 1
    hidden: int = 256
    geometry: str = "virtual"
    pixel_error: float = 2.0
    w_3d: float = 1.0
    w_joint: float = 0.5
    w_2d: float = 1.0
    w_d: float = 1.0
    w_text: float = 1.0
    w_there: float = 1.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if min(self.Q, self.r, self.pool, self.K_d, self.d, self.hidden) < 1:
            raise ConfigError("Q, r, pool, K_d, d and hidden are counts", hint="give at least 1 of each")
        if self.f_v <= 0 or not 0 < self.z_min < self.z_max or not 0 <= self.dropout < 1:
            raise ConfigError("f_v, z_min, z_max or dropout is outside its range", hint="see LLMI3DConfig")
        if self.tune not in TUNES:
            raise ConfigError(f"tune={self.tune!r} is unknown", hint=f"use one of {', '.join(TUNES)}")
        if self.rays not in RAYS:
            raise ConfigError(f"rays={self.rays!r} is unknown", hint=f"use one of {', '.join(RAYS)}")
        if self.geometry not in GEOMETRIES:
            raise ConfigError(
                f"geometry={self.geometry!r} is unknown", hint=f"use one of {', '.join(GEOMETRIES)}"
            )

    @property
    def f_or_none(self) -> float | None:
        """f_v, or None without the virtual camera."""
        return self.f_v if self.virtual else None


def virtual_camera(camera: Tensor, side: int) -> Tensor:
    """Intrinsics rows [B, 4] of the same pixels, for a focal length fy of one picture side.

    >>> virtual_camera(torch.tensor([[200.0, 100.0, 48.0, 48.0]]), 96).tolist()
    [[192.0, 96.0, 48.0, 48.0]]
    """
    return torch.cat((camera[:, :2] * side / camera[:, 1:2], camera[:, 2:]), 1)


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


class Sighted(Trained):
    """What all methods on an MLLM share: visual tokens, fine features, the prompt.

    Args:
        mllm: frozen; LoRA goes into it.
        channels: of the fine map.
        config: hyper-parameters.
    """

    def __init__(self, mllm: Mllm, channels: int, config: LLMI3DConfig) -> None:
        super().__init__()
        self.config, self.side, self.grid = config, mllm.side, mllm.grid
        if config.tune == "full":
            mllm.model.model.language_model.requires_grad_(True)
            mllm.model.lm_head.requires_grad_(True)
        else:
            add_lora(mllm, config.r, config.alpha, config.dropout, config.targets)
        self.speaker = Speaker(mllm)
        self.enhancer: SpatialEnhancer | None = None
        if config.local:
            self.enhancer = SpatialEnhancer(
                mllm.tower_width,
                channels,
                mllm.grid // config.pool,
                config.d,
                config.K_d,
                config.z_min,
                config.z_max,
                placed=config.placed,
            )

    def prefix(self, batch: Mapping[str, Any], keep: Kept | None = None) -> tuple[list[Any], Tensor]:
        """The embedded question about the picture, and the loss of the depth map.

        Args:
            batch: see `wildsight.spatial.inputs`.
            keep: the visual tokens that stay; None: all.
        """
        tokens = pooled(batch["tokens"], self.grid, self.config.pool)
        loss = tokens.new_zeros(())
        if self.enhancer is not None:
            camera = batch["camera"]
            if self.config.rays == "virtual":
                camera = virtual_camera(camera, self.side)
            seen = self.enhancer(tokens, batch["fine"], camera, batch["inside"], self.side)
            tokens, truth = seen.tokens, self._map(batch, seen.depth.shape[-1])
            loss = L.depth_map_loss(seen.depth_logits, seen.depth, truth, self.enhancer.depth.edges)
        kinds = torch.full(tokens.shape[:2], TOKEN, device=tokens.device)
        if "behind" in batch:
            tokens = torch.cat((tokens, batch["behind"]), 1)
            kinds = torch.cat((kinds, batch["behind_kind"]), 1)
        here, steps = (kinds != NOTHING).float(), batch["after_mask"].float()
        if keep is not None:
            order, here, steps = thinned(keep, kinds != NOTHING, steps)
            tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
            kinds = kinds.gather(1, order)
        picture = self.speaker.project(tokens, kinds == NEWLINE if "behind" in batch else None)
        before, after = self.speaker.embed(batch["before"]), self.speaker.embed(batch["after"])
        first = torch.ones(before.shape[:2], device=before.device)
        return [(before, first), (picture.to(before.dtype), here), (after, steps)], loss

    def _map(self, batch: Mapping[str, Any], side: int) -> Tensor:
        """True depths [B, side, side] in the camera that the network sees, 0 where unknown."""
        truth: Tensor = batch["depth_map"]
        if truth.shape[-1] != side:
            truth = F.interpolate(truth[:, None], size=(side, side))[:, 0]
        if not self.config.virtual:
            truth = truth * (batch["camera"][:, 1] / self.config.f_v)[:, None, None]
        return truth

    def answer_parts(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and mask of answers [B, A], -1 where nothing stands."""
        return self.speaker.embed(ids.clamp_min(0)), (ids >= 0).float()

    def answer_loss(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Cross-entropy of answers [B, A] from the hidden states [B, A, D] before each of their tokens."""
        return F.cross_entropy(
            self.speaker.logits(hidden).float().flatten(0, 1), ids.flatten(), ignore_index=-1
        )


class LLMI3D(Sighted):
    """The paper's network.

    Attributes:
        queries: [Q, D] the learned 3D query tokens.
    """

    numbers = False

    def __init__(self, mllm: Mllm, channels: int, config: LLMI3DConfig) -> None:
        super().__init__(mllm, channels, config)
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
