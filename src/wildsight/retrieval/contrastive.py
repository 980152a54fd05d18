"""Cross-modal supervised contrastive loss, InfoNCE with several positives (peer).

Paper: "Supervised Contrastive Learning", arXiv 2004.11362, equation 2. The loss itself is
pytorch-metric-learning's ``SupConLoss`` at temperature 0.1.

Difference: sketches are compared with photos and photos with sketches, never within a modality.
"""

from __future__ import annotations

from torch import Tensor

from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, TermLearner
from wildsight.retrieval.peers import metric_learning

TEMPERATURE = 0.1


def build(plan: Plan) -> Learner:
    """The learner."""
    library = metric_learning()
    loss = library.losses.SupConLoss(temperature=TEMPERATURE)

    def term(z: Tensor, batch: Episode) -> Tensor:
        sketch, photo = batch["modality"] == 0, batch["modality"] == 1
        one, two = (z[sketch], batch["label"][sketch]), (z[photo], batch["label"][photo])
        value: Tensor = 0.5 * (
            loss(*one, ref_emb=two[0], ref_labels=two[1]) + loss(*two, ref_emb=one[0], ref_labels=one[1])
        )
        return value

    return TermLearner(plan, term)
