"""Triplet loss with the hardest positive and negative of the other modality (peer).

Paper: "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737: the batch-hard triplet
max(0, D(a, p) - D(a, n) + mu). The loss itself is pytorch-metric-learning's ``TripletMarginLoss``.

Difference: positives and negatives are of the other modality alone, as sketch retrieval asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, TermLearner
from wildsight.retrieval.peers import metric_learning
from wildsight.retrieval.ramln import distances, mine


def build(plan: Plan) -> Learner:
    """The learner."""
    library = metric_learning()
    loss = library.losses.TripletMarginLoss(
        margin=plan.config.mu0, distance=library.distances.LpDistance(normalize_embeddings=False)
    )

    def term(z: Tensor, batch: Episode) -> Tensor:
        chosen = mine(distances(z, z), batch["label"], batch["modality"])
        anchors = torch.arange(len(z), device=z.device)[chosen.valid]
        triplets = (anchors, chosen.positive[chosen.valid], chosen.other[chosen.valid])
        value: Tensor = loss(z, batch["label"], triplets)
        return value

    return TermLearner(plan, term)
