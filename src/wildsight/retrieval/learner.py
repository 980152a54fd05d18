"""What is trained: the adapter with a loss, one episode at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wildsight.retrieval.encoder import Adapter
from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.ramln import (
    MarginNet,
    RAMLNConfig,
    class_loss,
    distances,
    meta_loss,
    mine,
    quadruplet_loss,
)

Term = Callable[[Tensor, Episode], Tensor]


@dataclass(frozen=True)
class Plan:
    """What every method's training shares.

    Attributes:
        adapter: what is kept after training.
        classes: number of training classes.
        config: hyper-parameters; ``gamma`` and ``scale`` hold for every method.
        iterations: planned number, for the warm-up.
        seed: of the class vectors.
    """

    adapter: Adapter
    classes: int
    config: RAMLNConfig
    iterations: int
    seed: int


class Learner(nn.Module, ABC):
    """Adapter and classifier under a metric loss and the shared cross-entropy."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.adapter, self.config = plan.adapter, plan.config
        width = plan.adapter.last.out_features
        generator = torch.Generator().manual_seed(plan.seed)
        self.prototypes = nn.Parameter(torch.randn(plan.classes, width, generator=generator) * width**-0.5)
        self.done: Tensor
        self.register_buffer("done", torch.zeros((), dtype=torch.long))
        self.warm = round(plan.config.warmup * plan.iterations)

    def forward(self, episode: dict[str, Episode]) -> dict[str, Tensor]:
        """Logged scalars of one episode, ``loss`` among them."""
        main = episode["main"]
        z = self.adapter(main["features"], main["modality"])
        guess = class_loss(z, main["label"], self.prototypes, self.config.scale)
        terms = self.metric(z, main, episode)
        self.done += 1
        total = terms.pop("objective") + self.config.gamma * guess
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


class RelationLearner(Learner):
    """The quadruplet with a fixed, a learned or a shuffled margin."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.margin_net: MarginNet | None = None
        if self.config.margin != "fixed":
            self.margin_net = MarginNet(self.adapter.last.out_features, self.config)
            for weight in self.margin_net.parameters():
                weight.lr_scale = self.config.meta_lr_scale

    def metric(self, z: Tensor, main: Episode, episode: dict[str, Episode]) -> dict[str, Tensor]:
        """The quadruplet loss, and after the warm-up the margin network's own loss on two other batches."""
        away = distances(z, z)
        mined = mine(away, main["label"], main["modality"])
        margin = self._margin(z, away, main)
        value = quadruplet_loss(away, mined, margin, self.config)
        logged = {"metric": value.detach(), "margin": margin.detach().mean(), "spread": margin.detach().std()}
        objective = value
        if self._meta_due():
            outer = self._meta(episode)
            objective, logged["outer"] = objective + outer, outer.detach()
        elif self.margin_net is not None and self.config.margin != "joint":
            logged["outer"] = torch.zeros_like(value.detach())
        if self.margin_net is not None and self.margin_net.memory is not None:
            order = torch.randperm(len(z), device=z.device)
            self.margin_net.memory.write(z.detach()[order], self.config.theta, self.config.eta)
        return {"objective": objective, **logged}

    def _meta_due(self) -> bool:
        step = int(self.done)
        learned = self.margin_net is not None and self.config.margin in ("meta", "shuffled")
        return learned and step >= self.warm and step % self.config.meta_every == 0

    def _margin(self, z: Tensor, away: Tensor, main: Episode) -> Tensor:
        """Margins [B]; learned ones come without gradient, except for ``joint``."""
        fixed = torch.full((len(z),), self.config.mu0, device=z.device)
        if self.margin_net is None or int(self.done) < self.warm:
            return fixed
        mined = mine(away, main["label"], main["modality"])
        with torch.set_grad_enabled(self.config.margin == "joint"):
            margin = self.margin_net(z, away, mined, main["modality"])
        if self.config.margin == "shuffled":
            margin = margin[torch.randperm(len(margin), device=margin.device)]
        return margin

    def _meta(self, episode: dict[str, Episode]) -> Tensor:
        inner, outer = episode["inner"], episode["outer"]
        with torch.no_grad():
            trunk = tuple(self.adapter.trunk(b["features"], b["modality"]) for b in (inner, outer))
        if self.margin_net is None:
            return trunk[0].new_zeros(())
        return meta_loss(
            (trunk[0], trunk[1]),
            (inner["label"], outer["label"]),
            (inner["modality"], outer["modality"]),
            (self.adapter.last.weight, self.adapter.last.bias),
            self.prototypes,
            self.margin_net,
            self.config,
        )
