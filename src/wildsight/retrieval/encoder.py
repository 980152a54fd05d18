"""The adapter: frozen tower features and a modality bit to a unit embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Adapter(nn.Module):
    """Two hidden layers on standardised tower features.

    Features are standardised per modality with the training set's statistics, so that the constant part
    of the gap between sketches and photos is gone before anything is learned.

    Args:
        inputs: width of the tower's features.
        width: d, width of the embedding.
        hidden: width of both hidden layers.
        dropout: share of hidden units dropped in training, in [0, 1).
    """

    def __init__(self, inputs: int, width: int = 128, hidden: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(2, inputs))
        self.register_buffer("deviation", torch.ones(2, inputs))
        self.net = nn.Sequential(
            nn.Linear(inputs + 1, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.last = nn.Linear(hidden, width)

    @torch.no_grad()
    def standardise(self, features: Tensor, modality: Tensor) -> None:
        """Take mean and deviation of each modality from training features [N, inputs]."""
        for kind in (0, 1):
            chosen = features[modality == kind]
            if len(chosen) > 1:
                self.mean[kind] = chosen.mean(0)
                self.deviation[kind] = chosen.std(0).clamp_min(1e-6)

    def trunk(self, features: Tensor, modality: Tensor) -> Tensor:
        """Hidden features [B, hidden] before the last layer."""
        level = (features - self.mean[modality]) / self.deviation[modality]
        bit = modality.to(features.dtype)[:, None] * 2 - 1
        return self.net(torch.cat([level, bit], dim=1))

    def forward(self, features: Tensor, modality: Tensor) -> Tensor:
        """Unit embeddings [B, width] of features [B, inputs] and modality bits [B] (0 sketch, 1 photo)."""
        return normalize(self.last(self.trunk(features, modality)), dim=1)


class Untouched(nn.Module):
    """The tower's own features, normalised: zero-shot retrieval."""

    def forward(self, features: Tensor, modality: Tensor) -> Tensor:  # noqa: ARG002
        """Unit features [B, inputs]."""
        return normalize(features, dim=1)
