"""What is trained: the adapter with a loss, one episode at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from wildsight.retrieval.encoder import Adapter
from wildsight.retrieval.episodes import Episode

Term = Callable[[Tensor, Episode], Tensor]


@dataclass(frozen=True)
class Plan:
    """What every method's training shares.

    Attributes:
        adapter: what is left after training.
        classes: number of training classes.
        gamma: weight of the cross-entropy.
        scale: inverse temperature of the classifier's cosines.
        iterations: planned number, for a warm-up.
        seed: of the class vectors.
    """

    adapter: Adapter
    classes: int
    gamma: float
    scale: float
    iterations: int
    seed: int


def class_loss(z: Tensor, label: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Cross-entropy of scaled cosines to class vectors [C, d]."""
    return cross_entropy(scale * z @ normalize(prototypes, dim=1).T, label)


class Learner(nn.Module, ABC):
    """Adapter and classifier under a metric loss and the shared cross-entropy."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.adapter, self.gamma, self.scale = plan.adapter, plan.gamma, plan.scale
        width = plan.adapter.last.out_features
        generator = torch.Generator().manual_seed(plan.seed)
        self.prototypes = nn.Parameter(torch.randn(plan.classes, width, generator=generator) * width**-0.5)
        self.done: Tensor
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def forward(self, episode: dict[str, Episode]) -> dict[str, Tensor]:
        """Logged scalars of one episode, ``loss`` among them."""
        main = episode["main"]
        z = self.adapter(main["features"], main["modality"])
        guess = class_loss(z, main["label"], self.prototypes, self.scale)
        terms = self.metric(z, main, episode)
        self.done += 1
        total = terms.pop("objective") + self.gamma * guess
        return {"loss": total, "class": guess.detach(), **terms}

    @abstractmethod
    def metric(self, z: Tensor, main: Episode, episode: dict[str, Episode]) -> dict[str, Tensor]:
        """``objective`` to descend, and scalars to log; each method has its own."""


class TermLearner(Learner):
    """A method whose metric loss is a function of the embeddings alone."""

    def __init__(self, plan: Plan, term: Term, extra: nn.Module | None = None) -> None:
        super().__init__(plan)
        self.term, self.extra = term, extra

    def metric(self, z: Tensor, main: Episode, episode: dict[str, Episode]) -> dict[str, Tensor]:  # noqa: ARG002
        """The method's term."""
        value = self.term(z, main)
        return {"objective": value, "metric": value.detach()}
