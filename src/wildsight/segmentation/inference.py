"""From pictures and prompts to outlines: one embedding per picture, prompts in few decoder calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wildsight.devices import out_of_memory
from wildsight.errors import BudgetError, ConfigError, DataError
from wildsight.images import Picture, as_picture, path_of
from wildsight.segmentation.adapter import Masks, PromptedSam
from wildsight.segmentation.base import Embedding, SamBase
from wildsight.segmentation.geometry import Frame, frame, place, to_picture, to_square, valid_tokens
from wildsight.segmentation.result import SegmentationResult

Box = Sequence[float]
Points = Sequence[Sequence[float]]
FLOATS = 4


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture that has been encoded: further prompts on it cost the decoder alone.

    Attributes:
        image: file, or None.
        where: its place in the square.
        embedding: of this one picture.
        relation: [1, N, N] or None, computed once.
    """

    image: Path | None
    where: Frame
    embedding: Embedding
    relation: Tensor | None


@dataclass(frozen=True)
class PlacedPicture:
    """A picture as the encoder takes it.

    Attributes:
        image: file, or None.
        where: its place in the square.
        square: [S, S, 3] uint8.
    """

    image: Path | None
    where: Frame
    square: np.ndarray


def placed(base: SamBase, item: Picture, geometry: str) -> PlacedPicture:
    """A picture in its square."""
    picture = as_picture(item)
    where = frame(*picture.size, base.image_size, geometry)
    return PlacedPicture(path_of(item), where, place(picture, where))


@torch.no_grad()
def embed(network: PromptedSam, pictures: Sequence[PlacedPicture], geometry: str) -> list[EmbeddedPicture]:
    """Encode a batch of pictures."""
    base, frames = network.base, [p.where for p in pictures]
    squares = torch.from_numpy(np.stack([p.square for p in pictures]))
    embedding = network.encode(base.normalise(squares.permute(0, 3, 1, 2), [f.inner for f in frames]))
    valid = None if geometry == "squash" else valid_tokens(frames, base.grid).to(base.device)
    looks = []
    for i, picture in enumerate(pictures):
        own = embedding.take(slice(i, i + 1))
        relation = network.adapter.relation(own, None if valid is None else valid[i : i + 1])
        looks.append(EmbeddedPicture(picture.image, picture.where, own, relation))
    return looks


def prompts_of_each(
    boxes: Sequence[Any] | None, points: Sequence[Any] | None, pictures: Sequence[Any], single: bool
) -> list[tuple[Sequence[Any], Sequence[Any]]]:
    """The boxes and groups of points of each picture.

    Args:
        boxes: of one picture, or a list of them per picture; None for none.
        points: likewise, groups of points.
        pictures: all of them.
        single: whether the prompts are those of the one picture.

    Raises:
        ConfigError: as many lists as there are not pictures.
    """
    lists: list[list[Sequence[Any]]] = []
    for prompts in (boxes, points):
        if prompts is None:
            lists.append([[] for _ in pictures])
        elif single:
            lists.append([prompts])
        elif len(prompts) != len(pictures):
            raise ConfigError(
                f"prompts for {len(prompts)} pictures, but {len(pictures)} pictures",
                hint="give a list per picture",
            )
        else:
            lists.append([[] if p is None else p for p in prompts])
    return list(zip(*lists, strict=True))


def checked_box(box: Box, where: Frame, name: str) -> tuple[float, float, float, float]:
    """A box, cut to its picture.

    Raises:
        DataError: not four finite numbers, no area, or wholly outside the picture.
    """
    values = [float(v) for v in np.asarray(box, np.float64).ravel()]
    size = f"{where.width} x {where.height}"
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise DataError(
            f"the box {values} is not four finite numbers", where=name, hint="give x1, y1, x2, y2"
        )
    x1, y1, x2, y2 = values
    if x2 <= x1 or y2 <= y1:
        raise DataError(f"the box {values} has no area", where=name, hint="give x1 < x2 and y1 < y2")
    if x1 >= where.width or y1 >= where.height or x2 <= 0 or y2 <= 0:
        raise DataError(
            f"the box {values} lies outside the {size} picture", where=name, hint="move it inside"
        )
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(where.width)), min(y2, float(where.height))


def checked_points(points: Points, where: Frame, name: str) -> list[tuple[float, float]]:
    """Points of one thing.

    Raises:
        DataError: no points, one that is not finite, or one outside the picture.
    """
    values = np.asarray(points, np.float64).reshape(-1, 2) if np.size(points) % 2 == 0 else np.empty((0, 2))
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"the points {points!r} are not finite (x, y) pairs", where=name, hint="give numbers")
    inside = (values >= 0).all(1) & (values[:, 0] < where.width) & (values[:, 1] < where.height)
    if not inside.all():
        size = f"{where.width} x {where.height}"
        bad = tuple(values[~inside][0].tolist())
        raise DataError(f"the point {bad} lies outside the {size} picture", where=name, hint="move it inside")
    return [(float(x), float(y)) for x, y in values]


def prompts_per_call(base: SamBase, memory: int) -> int:
    """How many prompts one decoder call takes within ``memory`` bytes, at least 1.

    Counted per prompt: 16 copies of the tokens, 3 of the upscaled map at a quarter and an eighth of the
    channels.
    """
    tokens = base.grid[0] * base.grid[1]
    need = FLOATS * tokens * base.channels * (16 + 3 * 16 * 3 // 8)
    return max(1, memory // need)


def _calls(count: int, most: int) -> Iterator[slice]:
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))


@torch.no_grad()
def decode(network: PromptedSam, look: EmbeddedPicture, sparse: Tensor, memory: int) -> Masks:
    """Logits [P, h, w] of both passes for prompt tokens [1, P, n, C], split to fit.

    Raises:
        BudgetError: not even one prompt fits.
    """
    most = prompts_per_call(network.base, memory)
    while True:
        try:
            parts = [
                network.decode(look.embedding, sparse[:, part], look.relation)
                for part in _calls(sparse.shape[1], most)
            ]
            drafts, finals = torch.cat([p.draft for p in parts], 1), torch.cat([p.final for p in parts], 1)
            return Masks(drafts[0], finals[0])
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if most == 1:
                raise BudgetError("no memory for one prompt", hint="use a smaller base") from error
            most = max(1, most // 2)


def outline(
    network: PromptedSam, look: EmbeddedPicture, boxes: Sequence[Box], points: Sequence[Points], memory: int
) -> SegmentationResult:
    """One mask per box, then one per group of points.

    Raises:
        DataError: a prompt that does not fit the picture.
        ConfigError: no prompt at all.
    """
    name = str(look.image) if look.image else "picture"
    asked = [{"box": list(checked_box(b, look.where, name))} for b in boxes]
    groups = [checked_points(p, look.where, name) for p in points]
    if not asked and not groups:
        raise ConfigError("no box and no point", where=name, hint="give boxes or points")
    tokens: list[Tensor] = []
    if asked:
        corners = torch.tensor([a["box"] for a in asked], dtype=torch.float32)
        tokens.append(_box_tokens(network.base, corners, look.where))
    tokens += [_point_tokens(network.base, group, look.where) for group in groups]
    masks = [decode(network, look, sparse, memory) for sparse in tokens]
    draft = to_picture(torch.cat([m.draft for m in masks]), look.where)
    final_logits = torch.cat([m.final for m in masks])
    final = to_picture(final_logits, look.where)
    prompts: tuple[dict[str, Any], ...] = (*asked, *({"points": [list(p) for p in g]} for g in groups))
    return SegmentationResult(
        look.image,
        (final > 0).cpu().numpy(),
        (draft > 0).cpu().numpy(),
        final_logits.float().cpu().numpy(),
        prompts,
    )


@torch.no_grad()
def _box_tokens(base: SamBase, corners: Tensor, where: Frame) -> Tensor:
    placed = to_square(corners.reshape(-1, 2, 2), where).reshape(1, -1, 4)
    return base.prompt(boxes=placed.to(base.device))


@torch.no_grad()
def _point_tokens(base: SamBase, group: list[tuple[float, float]], where: Frame) -> Tensor:
    placed = to_square(torch.tensor(group, dtype=torch.float32), where)[None, None].to(base.device)
    return base.prompt(
        points=placed, labels=torch.ones(1, 1, len(group), dtype=torch.long, device=base.device)
    )
