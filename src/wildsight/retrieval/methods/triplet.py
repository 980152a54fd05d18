"""Triplet loss with the hardest positive and negative of the other modality (peer).

Paper: "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737: the batch-hard triplet
max(0, D(a, p) - D(a, n) + mu). The loss itself is pytorch-metric-learning's ``TripletMarginLoss``.

Difference: positives and negatives are of the other modality alone, as sketch retrieval asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wildsight.estimators.registry import ABOVE_ZERO, check_ranges
from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, TermLearner
from wildsight.retrieval.methods import METHODS, TrainedMethod
from wildsight.retrieval.methods.ramln import distances, mine
from wildsight.retrieval.peers import metric_learning


@METHODS.register("triplet")
@dataclass(frozen=True, kw_only=True)
class Triplet(TrainedMethod):
    """The batch-hard triplet with its hyper-parameters."""

    title = "batch-hard cross-modal triplet"

    mu0: float = 0.2
    """Margin, > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, mu0=ABOVE_ZERO)

    def learner(self, plan: Plan, features: Tensor, modality: Tensor) -> Learner:  # noqa: ARG002
        """The learner."""
        library = metric_learning()
        loss = library.losses.TripletMarginLoss(
            margin=self.mu0, distance=library.distances.LpDistance(normalize_embeddings=False)
        )

        def term(z: Tensor, batch: Episode) -> Tensor:
            chosen = mine(distances(z, z), batch["label"], batch["modality"])
            anchors = torch.arange(len(z), device=z.device)[chosen.valid]
            triplets = (anchors, chosen.positive[chosen.valid], chosen.other[chosen.valid])
            value: Tensor = loss(z, batch["label"], triplets)
            return value

        return TermLearner(plan, term)
