"""CSP: the attribute and object words of the prompt are learned, the towers stay frozen.

Paper:
    arXiv 2204.03574 (ICLR 2023): prompt ``a photo of [attribute] [object]`` with learned token vectors,
    starting from the tokens of the words, cross-entropy over the seen pairs, dropout on the vectors.
    Difference: dropout is 0.3 for every set (``dropout`` sets it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.composition.methods import METHODS, CompositionMethod
from wildsight.composition.modules import Factors, Head, LabelledBatch, Pairs, Space, WordTable, cross_entropy
from wildsight.errors import UnsupportedModelError
from wildsight.estimators.registry import SHARE, check_ranges


@METHODS.register("csp")
@dataclass(frozen=True, kw_only=True)
class CSP(CompositionMethod):
    """CSP with its hyper-parameters."""

    title = "CSP"
    needs_text = True
    pair_texts = False
    learns_prompts = True

    dropout: float = 0.3
    """Of the word vectors, in [0, 1)."""

    def __post_init__(self) -> None:
        check_ranges(self, dropout=SHARE)

    def head(self, space: Space) -> CSPHead:
        """The learned words in front of the tower."""
        return CSPHead(space, self)


class CSPHead(Head):
    """Learned vocabulary. The tower is the backbone's and is not part of the checkpoint."""

    grows: ClassVar[bool] = False

    def __init__(self, space: Space, config: CSP) -> None:
        super().__init__(space)
        if space.tower is None:
            raise UnsupportedModelError("CSP needs a text tower", hint="use a CLIP or SigLIP backbone")
        self.config = config
        self._tower = (space.tower,)  # in a tuple, so that it is no sub-module and stays out of state_dict
        self.attributes = WordTable(space.tower.words(space.names[0]))
        self.objects = WordTable(space.tower.words(space.names[1]))

    def factors(self, v: Tensor) -> Factors:
        """The unit picture feature alone."""
        return Factors(self.prepare(v))

    def prototypes(self, pairs: Pairs) -> Tensor:
        """Unit text features of the prompts with learned words."""
        drop = self.config.dropout
        attributes = F.dropout(self.attributes(), drop, self.training)[pairs.ids[:, 0]]
        objects = F.dropout(self.objects(), drop, self.training)[pairs.ids[:, 1]]
        parts = zip(attributes.split(1024), objects.split(1024), strict=True)
        return torch.cat([self._tower[0](a, o) for a, o in parts])

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Cross-entropy over the seen pairs."""
        cosine = self.prepare(batch.features) @ self.known().T
        return {"loss": cross_entropy(cosine, batch.label, self.scale)}
