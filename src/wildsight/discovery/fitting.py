"""Training a head on cached tokens: which pictures and views a step draws, and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from wildsight.discovery.clustering import Ids
from wildsight.discovery.methods.nngcd import NNGCD, GCDHead, total_loss
from wildsight.errors import ConfigError
from wildsight.training import Batch, History, TrainConfig, train
from wildsight.training.batches import mix

BATCH = 256


@dataclass(frozen=True)
class Tokens:
    """What a head is trained on.

    Attributes:
        array: [N, 1 + V, T, D] tokens, the whole picture first; may be memory-mapped.
        rows: [M] the rows of ``array`` in use.
        labels: [M] known class, -1 for unlabelled pictures.
    """

    array: np.ndarray
    rows: NDArray[np.int64]
    labels: Ids

    @property
    def width(self) -> int:
        """D."""
        return int(self.array.shape[-1])

    def take(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        """[B, T, D] float32 of positions and views."""
        return torch.from_numpy(np.asarray(self.array[self.rows[rows], views], dtype=np.float32))


class Positions(Dataset[int]):
    """As many positions as there are pictures: an epoch is that many draws with replacement."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def draw_weights(labels: Ids) -> NDArray[np.float64]:
    """Probability of each picture in one draw: about half of the draws are labelled.

    Weight 1 for labelled pictures and |labelled| / |unlabelled| for the others.
    """
    held = labels >= 0
    weight = np.where(held, 1.0, held.sum() / max(1, (~held).sum()))
    if not held.any():
        weight = np.ones(len(labels))
    return weight / weight.sum()


def drawn(batch: Batch, cumulative: NDArray[np.float64], views: int) -> tuple[NDArray[np.int64], ...]:
    """Rows, and two random views of each, from (seed, epoch, index) alone.

    Args:
        batch: positions.
        cumulative: running sum of `draw_weights`.
        views: number of random views there are; views 1 .. views of the token array.

    Returns:
        rows, first views, second views; view 0 where there are no random ones.
    """
    numbers = np.stack(
        [np.random.default_rng(mix(batch.seed, batch.epoch, i, 11)).random(3) for i in batch.index.tolist()]
    )
    rows = np.minimum(np.searchsorted(cumulative, numbers[:, 0], side="right"), len(cumulative) - 1)
    if not views:
        none = np.zeros(len(rows), np.int64)
        return rows, none, none
    first, second = (1 + np.floor(numbers[:, i] * views).astype(np.int64) for i in (1, 2))
    return rows, first, second


def make_step(data: Tokens, config: NNGCD, total: int) -> Callable[[nn.Module, Batch], dict[str, Tensor]]:
    """The training step of a head on ``data`` for a run of ``total`` optimiser steps."""
    cumulative = np.cumsum(draw_weights(data.labels))
    views = data.array.shape[1] - 1

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        head: GCDHead = getattr(model, "module", model)
        rows, first, second = drawn(batch, cumulative, views)
        if config.second_view == "whole":
            second = np.zeros_like(second)
        tokens = torch.cat([data.take(rows, first), data.take(rows, second)]).to(batch.index.device)
        labels = torch.from_numpy(data.labels[rows]).to(tokens.device)
        if int(head.step):
            head.follow(total)
        head.step += 1
        values = total_loss(head, model(tokens), labels, labels >= 0, float(batch.epoch))
        if not bool(values["loss"].isfinite()):
            pictures = ", ".join(map(str, data.rows[rows][:8].tolist()))
            what = f"the loss is not finite on the pictures {pictures}, ..."
            raise ConfigError(what, hint="give a lower learning rate, lr")
        return values

    return step


def fit_head(
    head: GCDHead,
    data: Tokens,
    config: TrainConfig,
    *,
    folder: Path | None = None,
    progress: bool = True,
    extra: Mapping[str, Any] | None = None,
    device: torch.device | str = "auto",
) -> History:
    """Train a head in place.

    Args:
        head: fresh, or to be resumed from ``folder``.
        data: tokens and labels.
        config: training settings; its seed is that of order, draws and views.
        folder: where the training state is kept.
        progress: show progress and the time left.
        extra: what else a state in ``folder`` must have been saved with, as in `train`.
        device: where it runs, and where the head stays.
    """
    count = len(data.rows)
    total = config.epochs * -(-count // config.batch_size)
    history = train(
        head,
        Positions(count),
        make_step(data, head.config, total),
        config,
        folder=folder,
        progress=progress,
        label="discover",
        extra=extra,
        device=device,
    )
    head.follow(total)
    return history


@torch.no_grad()
def embed(head: GCDHead, data: Tokens) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole pictures' z [M, D], u [M, out] and teacher logits [M, K], float32."""
    head.eval()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(data.rows), BATCH):
        rows = np.arange(start, min(start + BATCH, len(data.rows)))
        out = head(data.take(rows, np.zeros(len(rows), np.int64)).to(head.teacher.device))
        parts.append((out.z.cpu(), out.u.cpu(), head.teacher_logits(out.z).cpu()))
    z, u, logits = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return z, u, logits
