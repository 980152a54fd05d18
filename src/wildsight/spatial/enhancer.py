"""Spatial-enhanced local feature mining: a visual token looks at the fine features of its own window.

For token j with its s x s window P_j of the fine map, LN layer norms:

    q_j = W_q LN(t_j),  c_p = phi(D_p) + phi_ray(u_p, v_p)
    k_p = W_k LN(f_p) + c_p,  val_p = W_v LN(f_p) [+ c_p where ``placed``]
    t'_j = t_j + MLP(sum_p softmax_p(q_j . k_p / sqrt(d)) val_p)

D is a depth in the virtual camera, the soft-argmax over bins that grow linearly (LID). The number of tokens
does not change, and a fresh enhancer changes nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.spatial import geometry

OCTAVES = 4


def lid_edges(count: int, low: float, high: float) -> Tensor:
    """Edges [count + 1] of depth bins whose widths grow linearly, metres.

    >>> lid_edges(2, 0.0, 6.0).tolist()
    [0.0, 2.0, 6.0]
    """
    k = torch.arange(count + 1, dtype=torch.float32)
    return low + (high - low) / (count * (count + 1)) * k * (k + 1)


def lid_bin(depth: Tensor, edges: Tensor) -> Tensor:
    """The bin of depths, those outside in the first or the last."""
    return (torch.bucketize(depth.contiguous(), edges, right=True) - 1).clamp(0, len(edges) - 2)


def depth_code(depth: Tensor) -> Tensor:
    """sin and cos of log depth in `OCTAVES` octaves: [..., 2 OCTAVES]."""
    waves = depth.clamp_min(1e-3).log()[..., None] * 2.0 ** torch.arange(OCTAVES, device=depth.device)
    return torch.cat((waves.sin(), waves.cos()), -1)


def windows(fine: Tensor, grid: int) -> Tensor:
    """Maps [B, C, s grid, s grid] as windows [B, grid^2, s^2, C], tokens and pixels in raster order."""
    b, c, h, _ = fine.shape
    s = h // grid
    cut = fine.reshape(b, c, grid, s, grid, s).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(b, grid * grid, s * s, c)


def window_attention(query: Tensor, key: Tensor, value: Tensor, inside: Tensor) -> Tensor:
    """Attention of each token to its own window.

    Args:
        query: [B, N, d].
        key: [B, N, P, d].
        value: [B, N, P, e].
        inside: bool [B, N, P], False where the picture was padded.

    Returns:
        [B, N, e]; 0 for a token whose window lies in the padding.
    """
    scores = torch.einsum("bnd,bnpd->bnp", query, key) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~inside, -1e4).softmax(-1) * inside
    return torch.einsum("bnp,bnpe->bne", weights, value)


class Enhanced(NamedTuple):
    """Tokens [B, N, D], depth logits [B, K, h, w] and depth [B, h, w] in the virtual camera, metres."""

    tokens: Tensor
    depth_logits: Tensor
    depth: Tensor


class DepthPredictor(nn.Module):
    """Three convolutions from the fine map to bins of virtual depth."""

    def __init__(self, channels: int, width: int, bins: int, low: float, high: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, bins, 1),
        )  # fmt: skip
        edges = lid_edges(bins, low, high)
        self.register_buffer("edges", edges)
        self.register_buffer("middles", (edges[1:] + edges[:-1]) / 2)

    def forward(self, fine: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K, h, w] and their soft-argmax [B, h, w], metres."""
        logits = self.net(fine)
        return logits, torch.einsum("bkhw,k->bhw", logits.softmax(1), self.middles)


class SpatialEnhancer(nn.Module):
    """The cross-branch attention, for tokens on a square grid.

    Args:
        tokens: width of a visual token.
        channels: of the fine map.
        grid: tokens along a side.
        width: d of the attention.
        bins, low, high: of the depth predictor, metres in the virtual camera.
        placed: whether values carry the place code c_p too.
    """

    def __init__(
        self,
        tokens: int,
        channels: int,
        grid: int,
        width: int,
        bins: int,
        low: float,
        high: float,
        *,
        placed: bool = True,
    ) -> None:
        super().__init__()
        self.grid, self.placed = grid, placed
        self.depth = DepthPredictor(channels, width, bins, low, high)
        self.norm_token, self.norm_fine = nn.LayerNorm(tokens), nn.LayerNorm(channels)
        self.query = nn.Linear(tokens, width)
        self.key, self.value = nn.Linear(channels, width), nn.Linear(channels, width)
        self.depth_code = nn.Sequential(nn.Linear(2 * OCTAVES, width), nn.GELU(), nn.Linear(width, width))
        self.ray_code = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.out = nn.Sequential(nn.Linear(width, tokens), nn.GELU(), nn.Linear(tokens, tokens))
        nn.init.zeros_(self.out[-1].weight)
        nn.init.zeros_(self.out[-1].bias)

    def forward(self, tokens: Tensor, fine: Tensor, camera: Tensor, inside: Tensor, side: int) -> Enhanced:
        """Tokens that know their window.

        Args:
            tokens: [B, N, D].
            fine: [B, C, h, w].
            camera: intrinsics rows [B, 4] of the square picture, pixels.
            inside: bool [B, h, w], False in the padding.
            side: of the square picture, pixels.
        """
        fine, inside = self._fitting(fine, inside)
        logits, depth = self.depth(fine)
        local = windows(self.norm_fine(fine.movedim(1, -1)).movedim(-1, 1), self.grid)
        code = self.depth_code(depth_code(depth)) + self.ray_code(ray_map(camera, fine.shape[-1], side))
        place = windows(code.movedim(-1, 1), self.grid)
        mask = windows(inside[:, None].float(), self.grid)[..., 0] > 0
        value = self.value(local) + place if self.placed else self.value(local)
        query = self.query(self.norm_token(tokens))
        found = window_attention(query, self.key(local) + place, value, mask)
        seen = mask.any(-1, keepdim=True)
        return Enhanced(tokens + self.out(found) * seen, logits, depth)

    def _fitting(self, fine: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The map with a side that is a whole multiple of the token grid."""
        side = max(1, round(fine.shape[-1] / self.grid)) * self.grid
        if fine.shape[-2:] == (side, side):
            return fine, inside
        fine = F.interpolate(fine, size=(side, side), mode="bilinear", align_corners=False)
        return fine, F.interpolate(inside[:, None].float(), size=(side, side))[:, 0] > 0


def ray_map(camera: Tensor, cells: int, side: int) -> Tensor:
    """Viewing directions (x/z, y/z) [B, cells, cells, 2] of the cells' centres."""
    at = (torch.arange(cells, device=camera.device, dtype=camera.dtype) + 0.5) * side / cells
    v, u = torch.meshgrid(at, at, indexing="ij")
    pixels = torch.stack((u, v), -1).expand(len(camera), -1, -1, -1)
    return geometry.rays(pixels, camera[:, None, None])[..., :2]
