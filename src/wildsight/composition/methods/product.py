"""Visual product: an attribute classifier and an object classifier that know nothing of each other.

Paper:
    The VisProd baseline of "From Red Wine to Red Tomato" (CVPR 2017):
    ``log p(a, o | x) = log p(a | x) + log p(o | x)``.
    Differences:
    1. Each classifier has a hidden layer, as wide as the other methods' branches: ``hidden=False``.
    2. In a space shared with texts its class vectors start at the words' text features, see `Cosine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from wildsight.composition.methods import METHODS, CompositionMethod
from wildsight.composition.modules import Branch, Factors, Head, LabelledBatch, Space
from wildsight.estimators.registry import SHARE, at_least, check_ranges


@METHODS.register("product")
@dataclass(frozen=True, kw_only=True)
class Product(CompositionMethod):
    """The visual product with its hyper-parameters."""

    title = "visual product"
    pair_texts = False

    hidden: bool = True
    """A hidden layer before each linear classifier."""
    d: int = 0
    """Its width; 0 takes the feature width in a shared space, else 256."""
    dropout: float = 0.1
    """In [0, 1)."""

    def __post_init__(self) -> None:
        check_ranges(self, d=at_least(0), dropout=SHARE)

    def head(self, space: Space) -> ProductHead:
        """Two classifiers."""
        return ProductHead(space, self)


class Cosine(nn.Module):
    """A classifier by cosine whose class vectors start at the words' text features.

    In a space shared with texts a random start would need many more steps than the other methods take.
    """

    def __init__(self, words: Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(words.clone()), scale

    def forward(self, z: Tensor) -> Tensor:
        """[B, D] to logits [B, classes]."""
        return self.scale * F.normalize(z, dim=-1) @ F.normalize(self.weight, dim=-1).T


class ProductHead(Head):
    """Two classifiers; they know their words by number alone."""

    grows: ClassVar[bool] = False

    def __init__(self, space: Space, config: Product) -> None:
        super().__init__(space)
        self.config = config
        d = space.dim if space.shared else (config.d or 256)
        for unused in (self.attributes, self.objects):
            unused.requires_grad_(False)
        words = space.attributes, space.objects
        self.attribute, self.object = (self._classifier(space, d, w) for w in words)

    def _classifier(self, space: Space, d: int, words: Tensor) -> nn.Module:
        width = d if self.config.hidden else space.dim
        last = Cosine(words, space.scale) if space.shared else nn.Linear(width, len(words))
        if not self.config.hidden:
            return last
        return nn.Sequential(Branch(space.dim, d, shared=space.shared, dropout=self.config.dropout), last)

    def factors(self, v: Tensor) -> Factors:
        """Log-probabilities of attributes and objects."""
        v = self.prepare(v)
        return Factors(None, self.attribute(v).log_softmax(-1), self.object(v).log_softmax(-1))

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """The sum of the two cross-entropies."""
        v, ids = self.prepare(batch.features), self.seen[batch.label]
        attribute = F.cross_entropy(self.attribute(v), ids[:, 0])
        objects = F.cross_entropy(self.object(v), ids[:, 1])
        return {"loss": attribute + objects, "attribute": attribute.detach(), "object": objects.detach()}
