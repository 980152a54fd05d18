"""What the reconstruction heads share: attention, post-norm layers, positions, the token encoder.

Attention is written out (two batched products around a softmax): for 196 tokens on a CPU, with the neighbour
mask and dropout, a training step in bfloat16 takes 1.1 (RAS) to 1.4 times (UniAD) as long with torch's fused
kernel (`benchmarks/anomaly_speed.py --part own-parts`).

Shapes: ``B`` pictures, ``N = H * W`` tokens in row-major order, ``d`` hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildsight.anomaly.dropout import dropout
from wildsight.errors import ConfigError


class HeadConfig(Protocol):
    """The settings a token encoder reads; every head's configuration has them."""

    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def grid(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def d(self) -> int: ...  # noqa: D102
    @property
    def heads(self) -> int: ...  # noqa: D102
    @property
    def ffn(self) -> int: ...  # noqa: D102
    @property
    def encoder_layers(self) -> int: ...  # noqa: D102
    @property
    def dropout(self) -> float: ...  # noqa: D102
    @property
    def neighbour(self) -> str: ...  # noqa: D102
    @property
    def kernel(self) -> int: ...  # noqa: D102


def neighbour_mask(grid: tuple[int, int], kernel: int) -> Tensor:
    """Additive mask ``[N, N]``: ``-inf`` where two tokens lie within one ``kernel x kernel`` window, else 0.

    A token's own position is blocked too, so that it can only be explained by far tokens.

    Raises:
        ConfigError: ``kernel`` is not odd and positive, or blocks every token for some position.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"kernel={kernel} has no centre", where="kernel", hint="give an odd number >= 1")
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    blocked = (place[:, None] - place[None]).abs().amax(dim=-1) <= kernel // 2
    if bool(blocked.all(dim=1).any()):
        raise ConfigError(
            f"a {kernel}x{kernel} mask leaves some token of a {grid[0]}x{grid[1]} grid nothing to see",
            where="kernel",
            hint="give a smaller kernel or a larger grid",
        )
    return torch.zeros(blocked.shape).masked_fill_(blocked, -math.inf)


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, drop: float = 0.0
) -> Tensor:
    """``softmax(q k^T / sqrt(d / heads) + mask) v`` per head.

    Args:
        q: queries ``[B or 1, N, d]``; one set serves the whole batch.
        k: keys ``[B, M, d]``.
        v: values ``[B, M, d]``.
        heads: number of heads; divides ``d``.
        mask: additive ``[N, M]`` or None.
        drop: share of attention weights dropped, in [0, 1).

    Returns:
        ``[B, N, d]``.
    """
    batch, width = k.shape[0], q.shape[-1] // heads
    q_h = _split(q * width**-0.5, heads).expand(batch, -1, -1, -1).flatten(0, 1)
    k_h, v_h = _split(k, heads).flatten(0, 1), _split(v, heads).flatten(0, 1)
    scores = torch.bmm(q_h, k_h.transpose(1, 2))
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    mixed = torch.bmm(dropout(scores.softmax(dim=-1), drop), v_h)
    return mixed.view(batch, heads, -1, width).transpose(1, 2).flatten(2)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class MultiHead(nn.Module):
    """Multi-head attention whose products with the position table are taken once, not once per picture.

    ``W (x + p) + b = W x + (W p + b)``: the bracket is a constant of the batch (`constants`). Rows of
    ``weight`` ``[3d, d]`` are the query, key and value projections.
    """

    def __init__(self, d: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.d, self.heads, self.dropout = d, heads, dropout
        self.weight = nn.Parameter(torch.empty(3 * d, d))
        self.bias = nn.Parameter(torch.zeros(3 * d))
        self.out = linear(d, d)
        nn.init.xavier_uniform_(self.weight)

    def constants(self, positions: Tensor) -> Tensor:
        """``[N, 3d]``: ``W_q p + b_q``, ``W_k p + b_k`` and ``b_v``; positions never enter values."""
        two = F.linear(positions, self.weight[: 2 * self.d], self.bias[: 2 * self.d])
        return torch.cat([two, self.bias[2 * self.d :].to(two.dtype).expand(len(two), -1)], dim=1)

    def queries(self, x: Tensor, constants: Tensor) -> Tensor:
        """Projected queries of ``x + p``, ``[..., N, d]``."""
        return F.linear(x, self.weight[: self.d]) + constants[:, : self.d]

    def keys_values(self, x: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Projected keys of ``x + p`` and values of ``x``, from one product."""
        both = F.linear(x, self.weight[self.d :]) + constants[:, self.d :]
        key, value = both.chunk(2, dim=-1)
        return key, value

    def itself(self, x: Tensor, constants: Tensor, mask: Tensor | None) -> Tensor:
        """Self-attention: queries and keys from ``x + p``, values from ``x``; ``[B, N, d]``."""
        q, k, v = (F.linear(x, self.weight) + constants).chunk(3, dim=-1)
        return self.mix(q, k, v, mask)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attention over projected tensors, then the output projection."""
        drop = self.dropout if self.training else 0.0
        return dropout(self.out(attend(q, k, v, self.heads, mask, drop)), drop)


class FeedForward(nn.Module):
    """Post-norm feed-forward: ``LN(u + W2 relu(W1 u))``, d -> ffn -> d."""

    def __init__(self, d: int, ffn: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up, self.down, self.norm = linear(d, ffn), linear(ffn, d), nn.LayerNorm(d)
        self.dropout = dropout

    def forward(self, u: Tensor) -> Tensor:
        """``[..., d]`` to ``[..., d]``."""
        drop = self.dropout if self.training else 0.0
        narrow = self.down(dropout(F.relu(self.up(u)), drop))
        out: Tensor = self.norm(u + dropout(narrow, drop))
        return out


class EncoderLayer(nn.Module):
    """``u = LN(z + MHA(z + p, z + p, z; M))``, then the post-norm feed-forward."""

    def __init__(self, d: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.norm = MultiHead(d, heads, dropout), nn.LayerNorm(d)
        self.feed = FeedForward(d, ffn, dropout)

    def forward(self, z: Tensor, constants: Tensor, mask: Tensor | None) -> Tensor:
        """``z [B, N, d]`` and `MultiHead.constants` to ``[B, N, d]``."""
        out: Tensor = self.feed(self.norm(z + self.attention.itself(z, constants, mask)))
        return out


class TokenEncoder(nn.Module):
    """Input projection, two learned position tables and the masked encoder; also the output projection.

    The base of both heads. Feature maps are ``[B, C, H, W]``, float, on ``config.grid``.
    """

    mask: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        if config.d % config.heads or config.d % 2:
            raise ConfigError(
                f"d={config.d} does not split over {config.heads} heads and two axes", where="d"
            )
        if config.neighbour not in ("none", "encoder", "all"):
            raise ConfigError(f"neighbour={config.neighbour!r} is unknown", hint="use none, encoder or all")
        height, width = config.grid
        self.channels, self.grid, self.neighbour = config.channels, config.grid, config.neighbour
        self.project, self.restore = linear(config.channels, config.d), linear(config.d, config.channels)
        self.column = nn.Parameter(torch.rand(width, config.d // 2))
        self.row = nn.Parameter(torch.rand(height, config.d // 2))
        self.encoder = nn.ModuleList(
            EncoderLayer(config.d, config.heads, config.ffn, config.dropout)
            for _ in range(config.encoder_layers)
        )
        if config.neighbour != "none":
            self.register_buffer("mask", neighbour_mask(config.grid, config.kernel), persistent=False)

    def positions(self) -> Tensor:
        """``[N, d]``: the column's vector, then the row's."""
        height, width = self.grid
        across = self.column[None].expand(height, -1, -1)
        down = self.row[:, None].expand(-1, width, -1)
        return torch.cat([across, down], dim=-1).flatten(0, 1)

    def encoder_constants(self, positions: Tensor) -> list[Tensor]:
        """`MultiHead.constants` of every encoder layer."""
        return [layer.attention.constants(positions) for layer in self.encoder]

    def mask_for(self, part: str) -> Tensor | None:
        """The neighbour mask if it acts in ``part``, ``"encoder"`` or ``"decoder"``."""
        acts = self.neighbour == "all" or self.neighbour == part
        return self.mask if acts else None

    def encode(self, f: Tensor, constants: Sequence[Tensor]) -> Tensor:
        """Feature map ``[B, C, H, W]`` to memory ``[B, N, d]``."""
        z: Tensor = self.project(f.flatten(2).transpose(1, 2))
        for layer, fixed in zip(self.encoder, constants, strict=True):
            z = layer(z, fixed, self.mask_for("encoder"))
        return z

    def to_map(self, tokens: Tensor) -> Tensor:
        """Output projection of ``[B, N, d]``, as a map ``[B, C, H, W]``."""
        out: Tensor = self.restore(tokens)
        return out.transpose(1, 2).unflatten(2, self.grid)

    def check(self, f: Tensor) -> None:
        """Raise ConfigError where ``f`` is not ``[B, C, H, W]`` for this head."""
        expected = (self.channels, *self.grid)
        if f.dim() != 4 or tuple(f.shape[1:]) != expected:
            raise ConfigError(
                f"features of shape {tuple(f.shape)} do not fit a head made for pictures of shape {expected}",
                where="features",
                hint="use the backbone and the picture size the head was trained with",
            )


def linear(fan_in: int, fan_out: int, bias: bool = True) -> nn.Linear:
    """A linear layer drawn Xavier-uniform with bias 0."""
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def share_start(tensors: Sequence[Tensor]) -> None:
    """Give every tensor the first one's values (the published code deep-copies its layers)."""
    with torch.no_grad():
        for tensor in tensors[1:]:
            tensor.copy_(tensors[0])
