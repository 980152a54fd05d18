"""Training an adapter on cached tower features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wildsight.retrieval.encoder import Adapter
from wildsight.retrieval.episodes import Episodes
from wildsight.retrieval.learner import Plan
from wildsight.retrieval.methods import EPISODES, TrainedMethod
from wildsight.training import History, TrainConfig, train


@dataclass(frozen=True)
class TrainingSet:
    """What a fit learns from.

    Attributes:
        features: [N, D] of the training pictures.
        label: [N] class numbers.
        modality: [N] 0 for sketches, 1 for photos.
        depends: what a saved state must have been made from for a fit to go on with it.
    """

    features: Tensor
    label: np.ndarray
    modality: Tensor
    depends: Mapping[str, Any] = field(default_factory=dict)


def fit_adapter(
    method: TrainedMethod,
    data: TrainingSet,
    config: TrainConfig,
    *,
    width: int,
    dropout: float,
    seed: int,
    folder: Path | None,
    progress: bool,
    device: torch.device,
) -> tuple[Adapter, History]:
    """A new adapter, trained.

    Args:
        method: which one, with its hyper-parameters.
        data: features, classes and modalities.
        config: how to train; an epoch is `EPISODES` batches.
        width: of the embedding. dropout: of the adapter.
        seed: of initialisation and batches.
        folder: where the state is kept. progress: show progress. device: where it runs.

    Raises:
        DataError: fewer than four classes have both sketches and photos.
    """
    torch.manual_seed(seed)
    adapter = Adapter(data.features.shape[1], width, dropout=dropout)
    adapter.standardise(data.features, data.modality)
    count = len(np.unique(data.label))
    plan = Plan(adapter, count, method.gamma, method.scale, EPISODES * config.epochs, seed)
    episodes = Episodes(data.features, data.label, data.modality.numpy(), count=EPISODES, seed=seed)
    history = train(
        method.learner(plan, data.features, data.modality),
        episodes,
        episodes.step,
        config,
        folder=folder,
        progress=progress,
        label=method.name,
        extra=data.depends,
        device=device,
    )
    return adapter.eval(), history
