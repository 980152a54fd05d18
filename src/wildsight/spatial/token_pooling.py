"""Visual tokens between the tower and the language model: averaged, behind one another, thinned out.

A LLaVA-NeXT reads a picture twice: whole, as its base tile, and cut into tiles as large as the tower's
picture. The tiles' tokens stand row by row behind those of the base tile, padding left out, a newline
behind each row. A packed place is a token or a newline in that order; other models have the base tile alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch
from PIL import Image as PILImage
from PIL.Image import Image, Resampling
from torch import Tensor

from wildsight.backbones.anyres import next_geometry
from wildsight.errors import ConfigError
from wildsight.keep import keep_top, n_keep
from wildsight.spatial.mllm import Mllm

NOTHING, TOKEN, NEWLINE = 0, 1, 2
AT_ONCE = 32  # pictures that the tower sees in one pass


class Kept(NamedTuple):
    """Visual tokens that stay: bool [B, L]; whether they keep their positions in the text."""

    stay: Tensor
    original: bool = False


def pooled(tokens: Tensor, grid: int, pool: int) -> Tensor:
    """Tokens [B, grid^2, D] averaged over blocks, [B, (grid / pool)^2, D].

    Raises:
        ConfigError: ``pool`` does not divide ``grid``.
    """
    if pool == 1:
        return tokens
    if grid % pool:
        raise ConfigError(f"pool={pool} does not divide a grid of {grid} tokens", hint="choose a divisor")
    b, _, d = tokens.shape
    blocks = tokens.reshape(b, grid // pool, pool, grid // pool, pool, d)
    return blocks.mean((2, 4)).flatten(1, 2)


# -- tiles ---------------------------------------------------------------------------------------------------


def tiles_of(image: Image, pinpoints: Sequence[Sequence[int]], side: int) -> list[Image]:
    """The tiles of a picture, row by row: resized to the resolution that suits it best, black around it.

    Args:
        image: RGB.
        pinpoints: resolutions (height, width) to choose from, multiples of ``side``.
        side: of a tile, pixels.
    """
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution((image.height, image.width), pinpoints)
    scale = min(width / image.width, height / image.height)
    size = min(ceil(image.width * scale), width), min(ceil(image.height * scale), height)
    canvas = PILImage.new("RGB", (width, height))
    canvas.paste(image.resize(size, Resampling.BICUBIC), ((width - size[0]) // 2, (height - size[1]) // 2))
    return [
        canvas.crop((x, y, x + side, y + side)) for y in range(0, height, side) for x in range(0, width, side)
    ]


def places_of(mllm: Mllm, images: Sequence[Image]) -> list[Tensor]:
    """For each picture the token that stands at each packed place, counted over its tiles, -1: a newline."""
    if mllm.pinpoints is None:
        return [torch.arange(mllm.grid**2)] * len(images)
    over_all = next_geometry(mllm.model, torch.tensor([(i.height, i.width) for i in images]))
    return [torch.where(p >= 0, p - p[0], -1) for p in over_all]


def see_tiles(mllm: Mllm, images: Sequence[Image]) -> list[Tensor]:
    """The tower's tokens [T, N, D] of each picture's T tiles, on the CPU; T is 0 without tiles."""
    cut = [[] if mllm.pinpoints is None else tiles_of(i, mllm.pinpoints, mllm.side) for i in images]
    flat = [tile for tiles in cut for tile in tiles]
    parts = [flat[i : i + AT_ONCE] for i in range(0, len(flat), AT_ONCE)]
    empty = torch.zeros(0, mllm.grid**2, mllm.tower_width)
    seen = torch.cat([empty, *(mllm.see(mllm.pixels(part)).float().cpu() for part in parts)])
    return list(seen.split([len(tiles) for tiles in cut]))


def pixels_of(mllm: Mllm, squares: Sequence[Image], images: Sequence[Image]) -> dict[str, Tensor]:
    """The model's own inputs for pictures, whose base tiles are ``squares``."""
    if mllm.pinpoints is None:
        return {"pixel_values": mllm.pixels(squares)}
    cut = [
        mllm.pixels([square, *tiles_of(image, mllm.pinpoints, mllm.side)])
        for square, image in zip(squares, images, strict=True)
    ]
    sizes = torch.tensor([(i.height, i.width) for i in images])
    return {"pixel_values": torch.nn.utils.rnn.pad_sequence(cut, batch_first=True), "image_sizes": sizes}


# -- places --------------------------------------------------------------------------------------------------


def homes(places: Tensor, grid: int, pool: int) -> tuple[Tensor, Tensor]:
    """Where packed places go when tokens are averaged over blocks of ``pool`` x ``pool``.

    Args:
        places: [n], see `places_of`.
        grid: tokens along a side of a tile.
        pool: tokens along a side of a block.

    Returns:
        For each place its pooled place [n], and for each pooled place its block, counted over its tiles [m];
        below 0 for a newline.

    >>> homes(torch.tensor([0, 1, 2, 3, 4, 5, -1, 6, 7, -1]), 2, 2)
    (tensor([0, 0, 0, 0, 1, 1, 2, 1, 1, 2]), tensor([ 0,  1, -2]))
    """
    side, numbers = grid // pool, torch.arange(len(places))
    ends = torch.where(places >= 0, numbers, 0).cummax(0).values  # a newline is named by the end of its row
    token = places[ends]
    tile, inside = token // grid**2, token % grid**2
    block = tile * side**2 + inside // grid // pool * side + inside % grid // pool
    names, inverse = torch.where(places >= 0, block, -1 - block).unique(return_inverse=True)
    first = torch.full_like(names, len(places)).scatter_reduce(0, inverse, numbers, "amin")
    order = first.argsort()
    return order.argsort()[inverse], names[order]


def behind(tiles: Tensor, places: Tensor, grid: int, pool: int) -> tuple[Tensor, Tensor]:
    """What stands behind the base tile's tokens.

    Args:
        tiles: [T, N, D] of the tower.
        places: [n], see `places_of`.
        grid: tokens along a side of a tile.
        pool: tokens along a side of a block.

    Returns:
        Tokens [M, D], 0 at newlines, and what each is [M]: `TOKEN` or `NEWLINE`.
    """
    blocks = pooled(tiles, grid, pool).flatten(0, 1)
    base = (grid // pool) ** 2
    sources = homes(places, grid, pool)[1][base:].to(tiles.device)
    token = sources >= 0
    found = tiles.new_zeros(len(sources), tiles.shape[-1])
    found[token] = blocks[sources[token] - base]
    return found, torch.where(token, TOKEN, NEWLINE)


def stacked_behind(rows: Sequence[tuple[Tensor, Tensor]], length: int | None = None) -> dict[str, Tensor]:
    """Tokens ``behind`` [B, M, D] and ``behind_kind`` [B, M] of rows of `behind`, filled up with `NOTHING`.

    Args:
        rows: tokens and kinds.
        length: M; None: as long as the longest.
    """
    longest = max(len(kinds) for _, kinds in rows) if length is None else length
    tokens = rows[0][0].new_zeros(len(rows), longest, rows[0][0].shape[-1])
    kinds = torch.zeros(len(rows), longest, dtype=torch.long, device=tokens.device)
    for i, (own, what) in enumerate(rows):
        tokens[i, : len(own)], kinds[i, : len(own)] = own, what
    return {"behind": tokens, "behind_kind": kinds}


# -- thinning ------------------------------------------------------------------------------------------------


def blocks_kept(kept: Tensor, places: Tensor, grid: int, pool: int) -> Tensor:
    """Which pooled places stay, bool [m]: the same share of blocks as of tokens, those that hold most of the
    kept ones, and newlines that were kept.

    Args:
        kept: packed places that stay, without pooling.
        places, grid, pool: see `homes`.

    >>> blocks_kept(torch.tensor([0, 1, 5, 15]), torch.arange(16), 4, 2).tolist()
    [True, False, False, False]
    """
    home, sources = homes(places, grid, pool)
    counts = torch.bincount(home[kept], minlength=len(sources))
    token = sources >= 0
    share = int((places[kept] >= 0).sum()) / int((places >= 0).sum())
    top = keep_top(counts[token].tolist(), n_keep(int(token.sum()), share))
    stay = (counts > 0) & ~token
    stay[token.nonzero()[top, 0]] = True
    return stay


def thinned(keep: Kept, there: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The visual tokens that stay, and how many places each token moves on in the text.

    Args:
        keep: tokens that stay.
        there: bool [B, L], False in the filling behind the tokens.
        after: steps of the text behind the picture [B, T].

    Returns:
        Numbers of the tokens that stay, rising, then filling [B, n]; their steps [B, n]; ``after``'s steps.

    >>> stay = torch.tensor([[True, False, False, True, True, False]])
    >>> thinned(Kept(stay, True), torch.ones(1, 6, dtype=torch.bool), torch.tensor([[1.0, 1.0, 0.0]]))
    (tensor([[0, 3, 4]]), tensor([[1., 3., 1.]]), tensor([[2., 1., 0.]]))
    """
    stay = keep.stay & there
    order = stay.long().sort(dim=1, descending=True, stable=True).indices[:, : int(stay.sum(1).max())]
    real = stay.gather(1, order)
    if not keep.original:
        return order, real.float(), after
    steps = order.diff(dim=1, prepend=torch.full_like(order[:, :1], -1)).float() * real
    rest = there.sum(1) - steps.sum(1)
    return order, steps, torch.cat((after[:, :1] + rest[:, None], after[:, 1:]), 1)
