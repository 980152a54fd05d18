"""Zero-shot CLIP: the cosine of a picture with ``a photo of a wet cat``. Nothing is trained.

Paper:
    arXiv 2103.00020, the prompt classifier on attribute-object pairs. Difference: one template, in the
    recognizer's settings, in place of an ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wildsight.composition.methods import METHODS, CompositionMethod
from wildsight.composition.modules import Factors, Head, LabelledBatch, Pairs, Space, cross_entropy
from wildsight.errors import UnsupportedModelError


@METHODS.register("zeroshot")
@dataclass(frozen=True, kw_only=True)
class ZeroShot(CompositionMethod):
    """The prompt classifier; it has no hyper-parameters."""

    title = "zero-shot CLIP"
    trained = False
    needs_text = True

    def head(self, space: Space) -> ZeroShotHead:
        """The features as they are."""
        return ZeroShotHead(space)


class ZeroShotHead(Head):
    """Picture and text features as they are."""

    def factors(self, v: Tensor) -> Factors:
        """The unit picture feature alone."""
        return Factors(self.prepare(v))

    def prototypes(self, pairs: Pairs) -> Tensor:
        """The text features of the pairs."""
        if pairs.base is None:
            raise UnsupportedModelError("zero-shot needs the text of each pair", hint="use CLIP or SigLIP")
        return pairs.base

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """The cross-entropy over the seen pairs, for the record: there is nothing to train."""
        scores = self.prepare(batch.features) @ self.known().T
        return {"loss": cross_entropy(scores, batch.label, self.scale)}
