"""Cross-modal supervised contrastive loss, InfoNCE with several positives (peer).

Paper: "Supervised Contrastive Learning", arXiv 2004.11362, equation 2. The loss itself is
pytorch-metric-learning's ``SupConLoss``.

Difference: sketches are compared with photos and photos with sketches, never within a modality.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wildsight.estimators.registry import ABOVE_ZERO, check_ranges
from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, TermLearner
from wildsight.retrieval.methods import METHODS, TrainedMethod
from wildsight.retrieval.peers import metric_learning


@METHODS.register("contrastive")
@dataclass(frozen=True, kw_only=True)
class Contrastive(TrainedMethod):
    """InfoNCE between the modalities with its hyper-parameters."""

    title = "cross-modal InfoNCE"

    temperature: float = 0.1
    """Of the cosines, > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, temperature=ABOVE_ZERO)

    def learner(self, plan: Plan, features: Tensor, modality: Tensor) -> Learner:  # noqa: ARG002
        """The learner."""
        loss = metric_learning().losses.SupConLoss(temperature=self.temperature)

        def term(z: Tensor, batch: Episode) -> Tensor:
            sketch, photo = batch["modality"] == 0, batch["modality"] == 1
            one, two = (z[sketch], batch["label"][sketch]), (z[photo], batch["label"][photo])
            value: Tensor = 0.5 * (
                loss(*one, ref_emb=two[0], ref_labels=two[1]) + loss(*two, ref_emb=one[0], ref_labels=one[1])
            )
            return value

        return TermLearner(plan, term)
