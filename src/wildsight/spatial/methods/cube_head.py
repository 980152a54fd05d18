"""Peer: a Cube R-CNN-like head on a given 2D box, without language.

Features of the fine map are averaged over a grid inside the box; the heads are those of LLMI3D. It
cannot know which object is meant: the 2D box is given, in an evaluation the true one, and tables say
so (ORACLE).

Reference: Omni3D / Cube R-CNN, CVPR 2023 (arXiv 2207.10660); the detector that finds 2D boxes is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.estimators.registry import at_least, check_ranges
from wildsight.spatial import losses as L
from wildsight.spatial.heads import GEOMETRIES, Boxes3D, BoxHeads, Readout, decode
from wildsight.spatial.methods import METHODS, SpatialMethod, one_of
from wildsight.spatial.mllm import Mllm
from wildsight.spatial.speaker import Trained
from wildsight.spatial.token_pooling import Kept

CELLS = 4
MARGIN = 0.1  # of the box's size, added around it


def cut_out(fine: Tensor, box: Tensor, cells: int = CELLS) -> Tensor:
    """Bilinear samples [B, C, cells, cells] of maps [B, C, h, w] at the middles of a grid inside boxes.

    Args:
        fine: maps over the whole picture.
        box: (centre x, centre y, width, height) [B, 4] in picture sides.
        cells: along a side.
    """
    at = (torch.arange(cells, device=fine.device, dtype=fine.dtype) + 0.5) / cells - 0.5
    v, u = torch.meshgrid(at, at, indexing="ij")
    size = box[:, None, None, 2:] * (1 + MARGIN)
    places = box[:, None, None, :2] + torch.stack((u, v), -1) * size
    return F.grid_sample(fine, 2 * places - 1, mode="bilinear", padding_mode="border", align_corners=False)


@METHODS.register("cube-head")
@dataclass(frozen=True, kw_only=True)
class CubeHead(SpatialMethod):
    """The head on a given 2D box, with its hyper-parameters.

    Attributes:
        hidden: width of the heads.
        geometry: ``virtual``, ``proj`` or ``fused``.
        pixel_error: standard deviation of the 2D height for ``fused``, pixels.
        w_joint: weight of the loss of all parts together.
    """

    title = "Cube R-CNN-like head on the given 2D box"
    oracle = True

    hidden: int = 256
    geometry: str = "virtual"
    pixel_error: float = 2.0
    w_joint: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, hidden=at_least(1), geometry=one_of(GEOMETRIES))

    def network(self, mllm: Mllm, channels: int) -> CubeNet:
        """Heads on features of the fine map."""
        return CubeNet(mllm, channels, self)


class CubeNet(Trained):
    """The network.

    Args:
        mllm: for the side of its picture alone.
        channels: of the fine map.
        config: hyper-parameters of the heads and the losses.
    """

    def __init__(self, mllm: Mllm, channels: int, config: CubeHead) -> None:
        super().__init__()
        self.config, self.side = config, mllm.side
        width = config.hidden
        self.body = nn.Sequential(
            nn.Linear(channels * CELLS**2 + 4, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.heads = BoxHeads(width, config.hidden)

    def start_from(self, depth: Tensor, focal: Tensor, size: Tensor) -> None:
        """Set the heads' means from the training boxes; see `LLMI3D.start_from`."""
        seen = depth * self.config.f_v / focal if self.config.virtual else depth
        self.heads.start_from(seen.log(), size.log())

    def _read(self, batch: Mapping[str, Any]) -> Readout:
        box = batch["box2d"][:, 0]
        features = torch.cat((cut_out(batch["fine"], box).flatten(1), box), 1)
        readout: Readout = self.heads(self.body(features)[:, None])
        offset = readout.uv - 0.5
        return readout._replace(uv=box[:, None, :2] + offset * box[:, None, 2:], box2d=box[:, None])

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The loss of the boxes that are there."""
        readout = self._read(batch)
        found = decode(readout, batch["camera"], self.side, self.config.f_or_none)
        truth = {k: batch[k][:, :1] for k in ("centre", "size", "rotation", "box2d", "valid")}
        split = L.box_losses(readout, found, **truth, camera=batch["camera"])
        three = (
            split["xy"]
            + split["z"]
            + split["size"]
            + split["rotation"]
            + self.config.w_joint * split["joint"]
        )
        return {"loss": three + split["there"], **{k: v.detach() for k, v in split.items()}}

    @torch.no_grad()
    def boxes(self, batch: Mapping[str, Any], keep: Kept | None = None) -> Boxes3D:  # noqa: ARG002
        """A box for each 2D box of ``batch``; one without an area is not there."""
        found = decode(
            self._read(batch), batch["camera"], self.side, self.config.f_or_none, self.config.geometry
        )
        there = (batch["box2d"][:, :1, 2:] > 0).all(-1)
        return found._replace(score=there.float())
