"""From the hidden state of the 3D query token to a box: regression heads, and the geometry behind them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wildsight.errors import ConfigError
from wildsight.spatial import geometry

GEOMETRIES = ("virtual", "proj", "fused")
REACH = 0.5  # how far a centre may lie outside the picture, in picture sides
EDGE = 0.02  # a 2D box nearer than this to the picture's edge counts as truncated
LOG_LIMIT = 6.0
LEAST = 0.1  # spread that training starts from where all depths are one
_PARTS = {"uv": 2, "box2d": 4, "depth": 1, "spread": 1, "size": 3, "rotation": 6, "there": 1}


class Readout(NamedTuple):
    """What the heads say of Q query tokens.

    Attributes:
        uv: [B, Q, 2] projected centre, in picture sides, within -0.5 to 1.5.
        box2d: [B, Q, 4] (centre x, centre y, width, height), in picture sides.
        depth: [B, Q] log of the depth that the network sees (virtual, where the virtual camera is used).
        spread: [B, Q] log of that depth's standard deviation.
        size: [B, Q, 3] log of length, height, width, metres.
        rotation: [B, Q, 6] allocentric.
        there: [B, Q] logit that such an object is there.
    """

    uv: Tensor
    box2d: Tensor
    depth: Tensor
    spread: Tensor
    size: Tensor
    rotation: Tensor
    there: Tensor


class Boxes3D(NamedTuple):
    """Boxes in metres: centre [B, Q, 3], size [B, Q, 3], rotation [B, Q, 3, 3], spread [B, Q] (standard
    deviation of the depth), score [B, Q]."""

    centre: Tensor
    size: Tensor
    rotation: Tensor
    spread: Tensor
    score: Tensor


class BoxHeads(nn.Module):
    """A small network for each part of a box; logs start at the training set's means.

    Args:
        width: of the hidden state.
        hidden: of each head.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, count)
                )
                for name, count in _PARTS.items()
            }
        )
        for head in self.parts.values():
            nn.init.normal_(head[-1].weight, std=0.02)
            nn.init.zeros_(head[-1].bias)
        self.register_buffer("mean_depth", torch.zeros(()))
        self.register_buffer("mean_size", torch.zeros(3))
        self.register_buffer("mean_rotation", torch.tensor((1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))

    def start_from(self, depth: Tensor, size: Tensor) -> None:
        """Set the means of log depth [N] and log size [N, 3], and the spread to that of the depths."""
        self.mean_depth.copy_(depth.mean())
        self.mean_size.copy_(size.mean(0))
        away = depth.exp().std(correction=0)
        nn.init.constant_(self.parts["spread"][-1].bias, log_range(max(float(away), LEAST)))

    def forward(self, hidden: Tensor) -> Readout:
        """Read hidden states [B, Q, D]."""
        out = {name: head(hidden).float() for name, head in self.parts.items()}
        return Readout(
            out["uv"].sigmoid() * (1 + 2 * REACH) - REACH,
            out["box2d"].sigmoid(),
            (out["depth"][..., 0] + self.mean_depth).clamp(-LOG_LIMIT, LOG_LIMIT),
            out["spread"][..., 0].clamp(-LOG_LIMIT, LOG_LIMIT),
            (out["size"] + self.mean_size).clamp(-LOG_LIMIT, LOG_LIMIT),
            out["rotation"] + self.mean_rotation,
            out["there"][..., 0],
        )


def metres(seen: Tensor, focal: Tensor, virtual: float | None) -> Tensor:
    """Metres [B, Q] along the optical axis of a depth, or a spread of it, as the network sees it.

    Args:
        seen: [B, Q].
        focal: fy of the square picture [B], pixels.
        virtual: f_v, pixels; None where ``seen`` is metres as it stands.
    """
    return seen if virtual is None else geometry.real_depth(seen, focal[:, None], virtual)


def projected_depth(readout: Readout, focal: Tensor, side: int) -> Tensor:
    """z = f H / h [B, Q]: how far something of the height H stands that is h pixels high."""
    height = (readout.box2d[..., 3] * side).clamp_min(1.0)
    return focal[:, None] * readout.size[..., 1].exp() / height


def whole(readout: Readout) -> Tensor:
    """Which 2D boxes [B, Q] lie inside the picture, so that their height is the object's."""
    half = readout.box2d[..., 2:] / 2
    low, high = readout.box2d[..., :2] - half, readout.box2d[..., :2] + half
    return (low > EDGE).all(-1) & (high < 1 - EDGE).all(-1)


def decode(
    readout: Readout,
    camera: Tensor,
    side: int,
    virtual: float | None = geometry.F_VIRTUAL,
    how: str = "virtual",
    pixel_error: float = 2.0,
) -> Boxes3D:
    """Boxes in metres from what the heads say.

    Args:
        readout: of the heads.
        camera: intrinsics rows [B, 4] of the square picture, pixels.
        side: of the square picture, pixels.
        virtual: f_v, pixels; None for depths without the virtual camera.
        how: ``virtual`` trusts the regressed depth, ``proj`` the 2D height, ``fused`` weighs both by their
            variances; boxes cut by the picture's edge always trust the regressed depth.
        pixel_error: standard deviation of the 2D height, pixels.

    Raises:
        ConfigError: another ``how``.
    """
    if how not in GEOMETRIES:
        raise ConfigError(f"geometry={how!r} is unknown", hint=f"use one of {', '.join(GEOMETRIES)}")
    focal = camera[:, 1]
    depth, spread = (metres(v.exp(), focal, virtual) for v in (readout.depth, readout.spread))
    if how != "virtual":
        other = projected_depth(readout, focal, side)
        doubt = other * pixel_error / (readout.box2d[..., 3] * side).clamp_min(1.0)
        mixed = other if how == "proj" else geometry.fused_depth(depth, spread, other, doubt)
        narrow = doubt if how == "proj" else (spread.pow(-2) + doubt.pow(-2)).rsqrt()
        depth = torch.where(whole(readout), mixed, depth)
        spread = torch.where(whole(readout), narrow, spread)
    pixels, row = readout.uv * side, camera[:, None]
    turned = geometry.rotation_from_6d(readout.rotation)
    rotation = geometry.to_egocentric(turned, geometry.rays(pixels, row))
    centre = geometry.unproject(pixels, depth, row)
    return Boxes3D(centre, readout.size.exp(), rotation, spread, readout.there.sigmoid())


def log_range(value: float) -> float:
    """Natural logarithm of a depth or a size, kept within what the heads can say."""
    return max(-LOG_LIMIT, min(LOG_LIMIT, math.log(value)))
