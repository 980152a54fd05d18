"""Batches whose order, content and noise come from (seed, epoch, index) alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from wildsight.training.config import TrainConfig


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one process.

    Attributes:
        data: what the default collate makes of the samples.
        index: [B] positions in the data set.
        epoch: epoch number, from 0.
        seed: the run's seed.
    """

    data: Any
    index: Tensor
    epoch: int
    seed: int

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise [B, *shape], drawn per sample from (seed, epoch, index) alone."""
        drawn = []
        for index in self.index.tolist():
            generator = torch.Generator().manual_seed(mix(self.seed, self.epoch, index))
            drawn.append(torch.randn(shape, generator=generator))
        return torch.stack(drawn).to(self.index.device)


def mix(*numbers: int) -> int:
    """One 63-bit seed from several whole numbers; equal input gives equal output on every machine.

    >>> mix(0, 1, 2) == mix(0, 1, 2), mix(0, 1, 2) == mix(0, 2, 1)
    (True, False)
    """
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 % (1 << 64)
        state ^= state >> 31
    return state >> 1


class Indexed(Dataset[tuple[int, Any]]):
    """Samples with their positions."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.data[index]


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The permutation of epoch ``epoch``."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed, epoch))).tolist()


def micro_batches(
    order: Sequence[int], config: TrainConfig, rank: int, world: int
) -> list[list[tuple[list[int], float]]]:
    """Per optimiser step, this rank's micro-batches and the weight of each one's mean loss.

    The weights make the sum over ranks and micro-batches the mean over the global batch, also when the
    last batch is short.
    """
    steps = []
    for start in range(0, len(order), config.batch_size):
        whole = list(order[start : start + config.batch_size])
        mine = whole[rank::world]
        size = max(1, math.ceil(len(mine) / config.accumulate))
        parts = [mine[i : i + size] for i in range(0, len(mine), size)]
        filler = [] if parts else [(whole[:1], 0.0)]
        steps.append(filler + [(part, len(part) / len(whole)) for part in parts])
    return steps


def collate(samples: list[tuple[int, Any]]) -> tuple[Tensor, Any]:
    """Positions [B] and the default collate of the samples."""
    return torch.tensor([i for i, _ in samples]), default_collate([s for _, s in samples])


def to_device(data: Any, device: torch.device) -> Any:
    """``data`` with every tensor in it on ``device``."""
    if isinstance(data, Tensor):
        return data.to(device)
    if isinstance(data, dict):
        return {k: to_device(v, device) for k, v in data.items()}
    if isinstance(data, list | tuple):
        moved = [to_device(v, device) for v in data]
        return type(data)(*moved) if hasattr(data, "_fields") else type(data)(moved)
    return data
