"""Troika-style disentangling: three identification paths, joined by ``p(pair) + p(attribute) p(object)``.

Paper:
    arXiv 2303.15230 (CVPR 2024): attribute, object and composition branches with their own prompts and
    visual features, the sum of three cross-entropies, and inference by the pair path plus the product of
    the two primitive paths. Differences:
    1. No cross-modal traction: it needs patch tokens, and the task caches one vector per picture.
    2. The visual branches are residual adapters on that vector, not adapters inside the tower.
    3. The prompts' words are learned as changes of their text features, not of their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.composition.methods import METHODS, THREE, CompositionMethod
from wildsight.composition.modules import (
    LARGE_TRAINING,
    Branch,
    Composer,
    Factors,
    Head,
    LabelledBatch,
    Space,
    cross_entropy,
)
from wildsight.estimators.registry import SHARE, at_least, check_ranges


@METHODS.register("troika")
@dataclass(frozen=True, kw_only=True)
class Troika(CompositionMethod):
    """Troika-style disentangling with its hyper-parameters."""

    title = "Troika-style"

    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the pair, attribute and object losses."""
    d: int = 0
    """Width; 0 takes the feature width in a shared space, else 256."""
    dropout: float = 0.1
    """In [0, 1)."""

    def __post_init__(self) -> None:
        check_ranges(self, d=at_least(0), dropout=SHARE, weights=THREE)

    def head(self, space: Space) -> TroikaHead:
        """Three branches."""
        return TroikaHead(space, self)


class TroikaHead(Head):
    """Three branches against three tables."""

    def __init__(self, space: Space, config: Troika) -> None:
        super().__init__(space)
        self.config = config
        width = space.attributes.shape[1]
        d = space.dim if space.shared else (config.d or 256)
        self.attribute, self.object, self.pair = (
            Branch(space.dim, d, shared=space.shared, dropout=config.dropout) for _ in range(3)
        )
        large = space.pictures >= LARGE_TRAINING
        self.composer = Composer(width, d, shared=space.shared, large=large)
        self.to_attribute = nn.Identity() if space.shared else nn.Linear(width, d)
        self.to_object = nn.Identity() if space.shared else nn.Linear(width, d)

    def _cosines(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit pair code [B, d], attribute cosines [B, nA], object cosines [B, nO]."""
        v = self.prepare(v)
        w_a = F.normalize(self.to_attribute(self.attributes()), dim=-1)
        w_o = F.normalize(self.to_object(self.objects()), dim=-1)
        z_a, z_o, z_c = (F.normalize(b(v), dim=-1) for b in (self.attribute, self.object, self.pair))
        return z_c, z_a @ w_a.T, z_o @ w_o.T

    def factors(self, v: Tensor) -> Factors:
        """Pair cosine, times the inverse temperature, plus p(a) p(o)."""
        code, attribute, objects = self._cosines(v)
        p_a, p_o = (attribute * self.scale).softmax(-1), (objects * self.scale).softmax(-1)
        return Factors(code * self.scale, p_a, p_o, rule="product")

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """The weighted sum of three cross-entropies."""
        code, attribute, objects = self._cosines(batch.features)
        label = batch.label
        ids = self.seen[label]
        w_c, w_a, w_o = self.config.weights
        loss = w_c * cross_entropy(code @ self.known().T, label, self.scale)
        loss = loss + w_a * cross_entropy(attribute, ids[:, 0], self.scale)
        return {"loss": loss + w_o * cross_entropy(objects, ids[:, 1], self.scale)}
