"""How a small vision transformer begins: knowing where its patches are, and looking at their neighbours.

A transformer with random weights needs far more pictures than a convolutional network before it tells
shapes apart. Here it starts as something like one: the patch filters are a cosine basis, places are sines and
cosines in channels of their own, and in the first layers some heads look one step to a side. Everything may
be unlearned.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

PLACE = 32  # channels that say where a patch is; also the width of a head
GAIN = 2.0  # how sharply a head looks at its neighbour: logit at the match is GAIN * sqrt(PLACE)
_STEPS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, -1), (0, 1), (-1, 0), (1, 0)),
    ((-1, -1), (1, 1), (-1, 1), (1, -1)),
    ((0, -2), (0, 2), (-2, 0), (2, 0)),
    ((0, -1), (0, 1), (-1, 0), (1, 0)),
)  # (rows, columns) that the first heads of the first layers look away


def frequencies(side: int) -> Tensor:
    """[PLACE / 4] radians a patch, the lowest a half turn over ``side`` patches."""
    return math.pi * (torch.arange(PLACE // 4) + 0.5) / side


def places(rows: int, columns: int, side: int | None = None) -> Tensor:
    """Codes [rows * columns, PLACE], mean square 1; sines and cosines of the row, then of the column.

    ``side`` is the grid that the frequencies belong to, by default the longer edge.

    >>> places(12, 12).square().mean(1).allclose(torch.ones(144))
    True
    """
    waves = frequencies(side or max(rows, columns))
    down, across = (_waves(torch.arange(n).float()[:, None] * waves) for n in (rows, columns))
    grid = torch.cat([down[:, None].expand(-1, columns, -1), across[None].expand(rows, -1, -1)], 2)
    return grid.reshape(rows * columns, PLACE)


def _waves(angles: Tensor) -> Tensor:
    return math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], 1)


def shift(down: int, across: int, side: int) -> Tensor:
    """The matrix [PLACE, PLACE] that turns the code of a place into that of the one so many steps away.

    >>> bool((places(4, 4)[0] @ shift(2, 1, 4).T).allclose(places(4, 4)[9], atol=1e-5))
    True
    """
    waves = frequencies(side)
    blocks = []
    for step in (down, across):
        c, s = torch.diag((waves * step).cos()), torch.diag((waves * step).sin())
        blocks.append(torch.cat([torch.cat([c, s], 1), torch.cat([-s, c], 1)], 0))
    return torch.block_diag(*blocks)


def cosine_filters(patch: int, channels: int) -> Tensor:
    """Filters [channels, 3, patch, patch]: a cosine basis, low frequencies first, of brightness and two
    colour differences, scaled so that all answer about alike to natural pictures."""
    line = torch.arange(patch).float()
    basis = torch.cos(math.pi * (line + 0.5) * line[:, None] / patch) * math.sqrt(2 / patch)
    basis[0] /= math.sqrt(2)
    plane = torch.einsum("iy,jx->ijyx", basis, basis).reshape(-1, patch, patch)
    plane = plane[sorted(range(len(plane)), key=lambda n: n // patch + n % patch)]
    colours = nn.functional.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]), dim=1)
    bright = min(len(plane), math.ceil(channels * 3 / 8))
    pairs = [(0, n) for n in range(bright)] + [
        (c, n) for n in range(len(plane)) for c in (1, 2) if n < len(plane)
    ]
    filters = []
    for colour, n in pairs[:channels]:
        strength = 0.35 * math.sqrt(1 + n) if n else 0.15
        filters.append(strength * colours[colour][:, None, None] * plane[n])
    return torch.stack(filters)


@torch.no_grad()
def begin(embedding: nn.Conv2d, positions: Tensor, layers: Any, side: int) -> None:
    """Set the start in place.

    Args:
        embedding: the patch filters; the first `PLACE` output channels become silent.
        positions: [side * side, D] position codes of the patches, a leaf tensor.
        layers: transformer layers, each a (query [D, D], key, value, output, first, second weight) tuple.
        side: patches along an edge.
    """
    width = positions.shape[1]
    positions.zero_()
    positions[:, :PLACE] = places(side, side)
    embedding.weight.zero_()
    filters = cosine_filters(embedding.weight.shape[-1], width - PLACE)
    embedding.weight[PLACE : PLACE + len(filters)] = filters
    for number, (query, key, value, output, first, second) in enumerate(layers):
        for head, step in enumerate(_STEPS[number] if number < len(_STEPS) else ()):
            rows = slice(head * PLACE, (head + 1) * PLACE)
            if rows.stop <= width:
                _look_aside(query[rows], key[rows], step, side)
        for weight, gain in ((value, 0.7), (output, 0.3), (first, 1.0), (second, 0.3)):
            nn.init.orthogonal_(weight, gain)


def _look_aside(query: Tensor, key: Tensor, step: tuple[int, int], side: int) -> None:
    """A head whose query is its own place moved by ``step`` and whose key is the place."""
    query.normal_(0, 0.01)
    key.normal_(0, 0.01)
    query[:, :PLACE] += math.sqrt(GAIN) * shift(*step, side)
    key[:, :PLACE] += math.sqrt(GAIN) * torch.eye(PLACE)
