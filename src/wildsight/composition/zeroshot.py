"""Zero-shot CLIP: the cosine of a picture with ``a photo of a wet cat``. Nothing is trained.

Paper:
    arXiv 2103.00020, the prompt classifier on attribute-object pairs. Difference: one template, in the
    recognizer's settings, in place of an ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wildsight.composition.parts import Factors, Head, Lesson, Pairs, Space, cross_entropy
from wildsight.errors import UnsupportedModelError


@dataclass(frozen=True)
class ZeroShotConfig:
    """No hyper-parameters."""


class ZeroShot(Head):
    """Picture and text features as they are."""

    def __init__(self, space: Space, config: ZeroShotConfig) -> None:
        super().__init__(space)
        self.config = config

    def factors(self, v: Tensor) -> Factors:
        """The unit picture feature alone."""
        return Factors(self.prepare(v))

    def prototypes(self, pairs: Pairs) -> Tensor:
        """The text features of the pairs."""
        if pairs.base is None:
            raise UnsupportedModelError("zero-shot needs the text of each pair", hint="use CLIP or SigLIP")
        return pairs.base

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """The cross-entropy over the seen pairs, for the record: there is nothing to train."""
        scores = self.prepare(lesson.features) @ self.known().T
        return {"loss": cross_entropy(scores, lesson.label, self.scale)}
