"""The task's methods: a file each, registered by name. `RetrievalMethod` is what the retriever drives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wildsight.estimators.registry import ABOVE_ZERO, Registry, at_least, check_ranges
from wildsight.retrieval.learner import Learner, Plan
from wildsight.training import TrainConfig

EPISODES = 50
"""Batches of an epoch."""


@dataclass(frozen=True, kw_only=True)
class RetrievalMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values."""

    name: ClassVar[str]
    """Name that it is registered by."""
    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = False
    """True when it trains the adapter, False when the tower's features stay as they are."""
    recipe: ClassVar[TrainConfig] = TrainConfig(
        epochs=10, batch_size=1, lr=1e-3, weight_decay=5e-4, schedule="cosine"
    )
    """Training settings; an epoch is `EPISODES` batches."""


@dataclass(frozen=True, kw_only=True)
class TrainedMethod(RetrievalMethod):
    """A method that trains the adapter under a metric loss and the shared cross-entropy."""

    trained = True

    gamma: float = 1.0
    """Weight of the cross-entropy over the training classes, >= 0."""
    scale: float = 10.0
    """Inverse temperature of the classifier's cosines, > 0."""

    def __post_init__(self) -> None:
        check_ranges(self, gamma=at_least(0), scale=ABOVE_ZERO)

    @abstractmethod
    def learner(self, plan: Plan, features: Tensor, modality: Tensor) -> Learner:
        """What is trained.

        Args:
            plan: what every method's training shares.
            features: [N, D] tower features of the training pictures. modality: [N] 0 sketch, 1 photo.

        Raises:
            ConfigError: a library is not installed.
        """


METHODS: Registry[RetrievalMethod] = Registry(
    "method",
    "wildsight.retrieval.methods",
    order=(
        *("ramln", "quadruplet", "margin-net", "joint", "shuffled"),
        *("triplet", "contrastive", "sake", "classes", "zero-shot"),
    ),
)
