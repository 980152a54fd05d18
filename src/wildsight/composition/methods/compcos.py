"""CompCos: one compatibility, the cosine of the picture with a composed word embedding.

Paper:
    arXiv 2101.12609 (CVPR 2021), ``C(x, a, o) = cos(w(x), phi(a, o))`` with a cross-entropy over the seen
    pairs, and in the open world margins by feasibility, see `openworld.feasibility`. Differences:
    1. Word vectors are those of the recognizer (text tower, or learned from nothing), not word2vec.
    2. The margins of unseen pairs during training are off: ``margin=0.4``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.composition.methods import METHODS, CompositionMethod
from wildsight.composition.modules import (
    LARGE_TRAINING,
    Branch,
    Composer,
    Factors,
    Head,
    LabelledBatch,
    Pairs,
    Space,
)
from wildsight.composition.openworld import feasibility
from wildsight.estimators.registry import SHARE, at_least, check_ranges


@METHODS.register("compcos")
@dataclass(frozen=True, kw_only=True)
class CompCos(CompositionMethod):
    """CompCos with its hyper-parameters."""

    title = "CompCos"

    d: int = 0
    """Width of the joint space; 0 takes the feature width in a shared space, else 256."""
    margin: float = 0.0
    """m of ``-m f(a, o)`` added to unseen pairs in the loss over the whole grid; 0 trains on the seen pairs
    alone."""
    dropout: float = 0.1
    """In [0, 1)."""

    def __post_init__(self) -> None:
        check_ranges(self, d=at_least(0), margin=at_least(0), dropout=SHARE)

    def head(self, space: Space) -> CompCosHead:
        """A picture branch and a composer."""
        return CompCosHead(space, self)


class CompCosHead(Head):
    """A picture branch and a composer of words."""

    def __init__(self, space: Space, config: CompCos) -> None:
        super().__init__(space)
        self.config = config
        d = space.dim if space.shared else (config.d or 256)
        self.pair = Branch(space.dim, d, shared=space.shared, dropout=config.dropout)
        large = space.pictures >= LARGE_TRAINING
        self.composer = Composer(space.attributes.shape[1], d, shared=space.shared, large=large)

    def factors(self, v: Tensor) -> Factors:
        """The unit code alone."""
        return Factors(F.normalize(self.pair(self.prepare(v)), dim=-1))

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Cross-entropy over the seen pairs, and over the grid with margins where they are on."""
        code = F.normalize(self.pair(self.prepare(batch.features)), dim=-1)
        cosine, label = code @ self.known().T, batch.label
        loss = F.cross_entropy(cosine * self.scale, label)
        if self.config.margin > 0:
            loss = loss + self._grid_loss(code, cosine, label)
        return {"loss": loss}

    def _grid_loss(self, code: Tensor, cosine: Tensor, label: Tensor) -> Tensor:
        """Unseen pairs join the negatives, pushed by how feasible they are."""
        grid, mask = self._unseen_grid()
        base = None
        if self.shared:
            words = self.attributes.base[grid[:, 0]] + self.objects.base[grid[:, 1]]
            base = F.normalize(words, dim=-1)
        prototypes = self.prototypes(Pairs(grid, base))
        unseen = cosine[:, :0] if prototypes is None else code @ prototypes.T
        with torch.no_grad():
            push = feasibility(self.attributes(), self.objects(), self.seen)[mask]
        logits = torch.cat([cosine, unseen - self.config.margin * push], dim=1)
        return F.cross_entropy(logits * self.scale, label)

    def _unseen_grid(self) -> tuple[Tensor, Tensor]:
        """(ids [U, 2], mask [nA, nO]) of the pairs never trained."""
        mask = torch.ones(len(self.attributes.base), len(self.objects.base), dtype=torch.bool)
        mask = mask.to(self.seen.device)
        mask[self.seen[:, 0], self.seen[:, 1]] = False
        return mask.nonzero(), mask
