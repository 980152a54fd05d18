"""Attribute-driven data synthesis, the part before the network: which pictures are mixed, and how much.

A training picture of (a, o) is mixed with pictures of other attributes of the *same* object, rare
attributes first. The table of an object's attributes comes from training pictures alone.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from wildsight.composition.modules import Mixing
from wildsight.training import Batch
from wildsight.training.batches import mix

SALT, COIN = 0xADD5, 0xC014


class Partners:
    """Draws partners for batches of training pictures.

    Args:
        features: [N, D] training features.
        labels: [N] ids of their pairs among ``seen``.
        seen: [S, 2] attribute and object ids.
        k: sources per synthetic sample, >= 1; 1 gives the picture itself.
        gamma: partners' attributes are drawn with probability ~ (pictures of the pair) ** -gamma.
        alpha: of the Dirichlet distribution of the weights.
        per_batch: one draw of the weights for a whole batch.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        seen: Tensor,
        *,
        k: int = 2,
        gamma: float = 1.0,
        alpha: float = 1.0,
        per_batch: bool = False,
    ) -> None:
        self.features, self.labels, self.seen = features, labels, seen
        self.k, self.alpha, self.per_batch = k, alpha, per_batch
        self.counts = torch.bincount(labels, minlength=len(seen))
        order = torch.argsort(labels, stable=True)
        self.order, self.start = order, torch.cumsum(self.counts, 0) - self.counts
        self.others, self.log_weight = self._table(gamma)

    def _table(self, gamma: float) -> tuple[Tensor, Tensor]:
        """[S, M] ids of the trained pairs with the same object and another attribute, and log weights."""
        same = (self.seen[:, None, 1] == self.seen[None, :, 1]) & (self.counts > 0)[None]
        same &= self.seen[:, None, 0] != self.seen[None, :, 0]
        width = max(1, int(same.sum(1).max()))
        weight = torch.where(same, -gamma * self.counts.clamp_min(1).double().log()[None], -torch.inf)
        log_weight, others = weight.sort(dim=1, descending=True, stable=True)
        return others[:, :width], log_weight[:, :width]

    def draw(self, index: Tensor, generator: torch.Generator) -> Mixing:
        """Partners of the training pictures ``index`` [B]."""
        own = self.labels[index]
        pairs, present = self._pairs(own, generator)
        rows = self._pictures(pairs[:, 1:], generator)
        weights = self._dirichlet(present, generator)
        return Mixing(
            features=self.features[rows],
            attributes=self.seen[pairs, 0],
            pairs=pairs,
            weights=weights,
            active=present[:, 1:].any(1) if self.k > 1 else torch.ones(len(index), dtype=torch.bool),
        )

    def _pairs(self, own: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Source pairs [B, K], the picture's own first, without replacement; and which exist."""
        log_weight = self.log_weight[own]
        noise = torch.rand(log_weight.shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
        value, at = (log_weight - (-noise.log()).log()).topk(min(self.k - 1, log_weight.shape[1]), dim=1)
        present = torch.cat([torch.ones(len(own), 1, dtype=torch.bool), torch.isfinite(value)], dim=1)
        chosen = torch.where(present[:, 1:], self.others[own].gather(1, at), own[:, None])
        return torch.cat([own[:, None], chosen], dim=1), present

    def _pictures(self, pairs: Tensor, generator: torch.Generator) -> Tensor:
        """One picture of each pair, uniformly."""
        share = torch.rand(pairs.shape, generator=generator, dtype=torch.float64)
        step = (share * self.counts[pairs]).long().clamp_max(self.counts[pairs] - 1)
        return self.order[self.start[pairs] + step]

    def _dirichlet(self, present: Tensor, generator: torch.Generator) -> Tensor:
        """Weights over the sources that exist; rows sum to 1."""
        shape = (1, self.k) if self.per_batch else tuple(present.shape)
        concentration = torch.full(shape, self.alpha, dtype=torch.float64)
        gamma = torch._standard_gamma(concentration, generator=generator)
        gamma = gamma[:, : present.shape[1]].clamp_min(1e-30).expand(len(present), -1) * present
        return (gamma / gamma.sum(1, keepdim=True)).float()


def stream(batch: Batch) -> torch.Generator:
    """The generator of a batch's synthesis: from seed, epoch and positions alone."""
    head = batch.index[:4].tolist()
    return torch.Generator().manual_seed(mix(SALT, batch.seed, batch.epoch, *head))


def coin(batch: Batch) -> float:
    """A number in [0, 1) from seed, epoch and the batch's first picture."""
    return random.Random(mix(COIN, batch.seed, batch.epoch, int(batch.index[0]))).random()
