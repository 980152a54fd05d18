"""PatchCore: remember normal tokens, score a token by its distance to the nearest one remembered.

Paper: "Towards Total Recall in Industrial Anomaly Detection" (CVPR 2022, arXiv 2106.08265). Implemented:
greedy k-centre coreset on randomly projected tokens (`k_centre`), nearest-neighbour map, re-weighted
image score (`reweight`). Locally aware patches are the task's shared neck.

Differences from the published code:
    1. One bank over all categories (the paper keeps one per category), so that it answers the same question
       as RAS: one model, category unknown.
    2. At most ``max_tokens`` tokens, drawn evenly at random over all pictures, enter the coreset search; a
       ``max_tokens`` of at least the number of tokens undoes it.
    3. The greedy search starts from one random token and measures exact distances between projected tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wildsight.anomaly.methods import METHODS, AnomalyMethod
from wildsight.errors import ConfigError, DataError
from wildsight.keep import n_keep

DISTANCE_CELLS = 2**23
"""Distances held at once while searching the bank (32 MiB in float32)."""


@METHODS.register("patchcore")
@dataclass(frozen=True, kw_only=True)
class PatchCoreMethod(AnomalyMethod):
    """PatchCore with its hyper-parameters; defaults are the paper's."""

    title = "PatchCore"
    own_score = True

    coreset: int | float = 0.1
    """What the bank keeps of the candidate tokens: a count, or a share in (0, 1]."""
    neighbours: int = 9
    """b, bank tokens around the nearest one that re-weight the image score, >= 1."""
    projection: int = 128
    """Channels of the random projection the coreset is searched in; more than C leaves tokens as they are."""
    max_tokens: int = 50_000
    """Candidate tokens, at most; bounds time (candidates x bank) and memory (candidates x C)."""

    def head(self) -> PatchCore:
        """An empty bank; its seed is that of the candidates, the projection and the first centre."""
        return PatchCore(self)

    def score(self, head: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
        """Distance map and re-weighted picture score."""
        if not isinstance(head, PatchCore):
            raise ConfigError("not a PatchCore head")
        return head.map_and_score(features)


class FittedBuffers(nn.Module):
    """A model whose state is fitted, not trained: buffers take the shapes of the tensors loaded into them."""

    def __init__(self, **empty: torch.dtype) -> None:
        super().__init__()
        for name, dtype in empty.items():
            self.register_buffer(name, torch.empty(0, dtype=dtype))
        self.register_load_state_dict_pre_hook(_take_shapes)


def _take_shapes(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, old in list(module.named_buffers(recurse=False)):
        if (new := state.get(prefix + name)) is not None:
            setattr(module, name, old.new_empty(new.shape))


def pictures(features: Sequence[Any] | np.ndarray | Tensor) -> Iterator[Tensor]:
    """Each picture's ``[C, H, W]`` features in float32, one at a time (``features`` may be a memory map).

    Raises:
        DataError: no picture, or something that is not three-dimensional.
    """
    if len(features) == 0:
        raise DataError("there are no pictures to remember", where="features", hint="give at least one")
    for picture in features:
        tensor = torch.as_tensor(np.array(picture) if isinstance(picture, np.ndarray) else picture)
        if tensor.dim() != 3:
            raise DataError(
                f"a picture's features have shape {tuple(tensor.shape)}", hint="give [N, C, H, W]"
            )
        yield tensor.float()


def draw_tokens(
    features: Sequence[Any] | np.ndarray | Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """``min(count, all)`` tokens ``[M, C]`` drawn evenly over all positions of all pictures, in order."""
    area = math.prod(features[0].shape[-2:]) if len(features) else 0
    total = len(features) * area
    chosen = torch.randperm(total, generator=generator)[:count].sort().values
    parts = []
    for index, picture in enumerate(pictures(features)):
        low, high = torch.searchsorted(chosen, torch.tensor([index * area, (index + 1) * area])).tolist()
        parts.append(picture.flatten(1).T[chosen[low:high] - index * area])
    return torch.cat(parts)


def k_centre(tokens: Tensor, count: int, first: int) -> Tensor:
    """Greedy k-centre: start at ``first``, then always add the token farthest from those chosen.

    Args:
        tokens: ``[M, C]``.
        count: centres, in [1, M].
        first: index of the first centre.

    Returns:
        Indices in the order chosen, ``[count]``; ties go to the lowest index.
    """
    chosen = torch.empty(count, dtype=torch.long)
    norms = tokens.square().sum(dim=1)
    nearest = torch.full((len(tokens),), math.inf)
    index = first
    for place in range(count):
        chosen[place] = index
        squared = torch.addmv(norms + norms[index], tokens, tokens[index], alpha=-2.0)
        torch.minimum(nearest, squared, out=nearest)
        nearest[index] = -math.inf
        index = int(nearest.argmax())
    return chosen


def nearest(tokens: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to and index of the nearest bank token, both ``[M]``, searched in bounded memory."""
    rows = max(1, DISTANCE_CELLS // len(bank))
    half = bank.square().sum(dim=1) / 2
    parts = (tokens,) if torch.compiler.is_exporting() else tokens.split(rows)
    index = torch.cat([torch.addmm(half, part, bank.T, alpha=-1.0).argmin(dim=1) for part in parts])
    return torch.linalg.vector_norm(tokens - bank[index], dim=1), index


def reweight(token: Tensor, distance: Tensor, index: Tensor, bank: Tensor, neighbours: int) -> Tensor:
    """Image score ``(1 - exp(d(x, m*)) / sum_m exp(d(x, m))) d(x, m*)``, m over bank tokens near ``m*``.

    Args:
        token: each picture's farthest token x, ``[B, C]``.
        distance: ``d(x, m*)``, its distance to the nearest bank token, ``[B]``.
        index: that bank token's index, ``[B]``.
        bank: ``[K, C]``.
        neighbours: b, with ``m*`` itself counted; 1 leaves the distance as it is.

    Returns:
        ``[B]``.
    """
    count = min(neighbours, len(bank))
    if count == 1:
        return distance
    around = torch.cdist(bank[index], bank).scatter(1, index[:, None], -1.0)
    near = around.topk(count, largest=False).indices
    distances = torch.linalg.vector_norm(token[:, None] - bank[near], dim=2)
    return (1.0 - distances.softmax(dim=1)[:, 0]) * distance


class PatchCore(FittedBuffers):
    """A bank of normal tokens over all categories. Buffer: ``bank [K, C]``, float32.

    Args:
        config: coreset size and neighbours.

    Raises:
        ConfigError: a count below 1.
    """

    bank: Tensor

    def __init__(self, config: PatchCoreMethod | None = None) -> None:
        super().__init__(bank=torch.float32)
        self.config = config or PatchCoreMethod()
        if min(self.config.neighbours, self.config.projection, self.config.max_tokens) < 1:
            raise ConfigError(
                "neighbours, projection and max_tokens must be at least 1", where="PatchCoreMethod"
            )

    @torch.no_grad()
    def fit(self, features: Sequence[Any] | np.ndarray | Tensor) -> PatchCore:
        """Remember a coreset of normal ``features [N, C, H, W]`` (or a sequence of ``[C, H, W]``).

        Raises:
            DataError: no picture, or features of another shape.
            BudgetError: ``coreset`` outside its range.
        """
        generator = torch.Generator().manual_seed(self.config.seed)
        tokens = draw_tokens(features, self.config.max_tokens, generator)
        count = n_keep(len(tokens), self.config.coreset)
        first = int(torch.randint(len(tokens), (1,), generator=generator))
        chosen = k_centre(self.project(tokens, generator), count, first)
        self.bank = tokens[chosen].to(self.bank.device)
        return self

    def project(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """Gaussian random projection ``[M, C]`` to ``[M, projection]`` that keeps distances on average."""
        width = self.config.projection
        if tokens.shape[1] <= width:
            return tokens
        return tokens @ (torch.randn(tokens.shape[1], width, generator=generator) / math.sqrt(width))

    def forward(self, f: Tensor) -> Tensor:
        """Distance map ``[B, 1, H, W]`` of ``f [B, C, H, W]``."""
        return self.map_and_score(f)[0]

    @torch.no_grad()
    def map_and_score(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Distance map ``[B, 1, H, W]`` and the paper's re-weighted image score ``[B]``.

        Raises:
            ConfigError: nothing fitted, or another number of channels.
        """
        self._check(f)
        tokens = f.float().flatten(2).transpose(1, 2)
        distance, index = (x.view(f.shape[0], -1) for x in nearest(tokens.flatten(0, 1), self.bank))
        peak, place = distance.max(dim=1)
        picture = torch.arange(f.shape[0], device=f.device)
        score = reweight(
            tokens[picture, place], peak, index[picture, place], self.bank, self.config.neighbours
        )
        return distance.view(f.shape[0], 1, *f.shape[2:]), score

    def _check(self, f: Tensor) -> None:
        if len(self.bank) == 0:
            raise ConfigError("the bank is empty", where="PatchCore", hint="call fit or load a saved bank")
        if f.dim() != 4 or f.shape[1] != self.bank.shape[1]:
            raise ConfigError(
                f"features of shape {tuple(f.shape)} do not fit a bank of {self.bank.shape[1]} channels",
                where="features",
                hint="use the backbone the bank was made with",
            )
