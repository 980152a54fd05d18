"""A loss that keeps the teacher's knowledge while the sketches are learned (peer, after SAKE).

Paper: "Semantic-Aware Knowledge Preservation for Zero-Shot Sketch-Based Image Retrieval", arXiv 1911.06474.
There an auxiliary head follows the ImageNet teacher's class probabilities.

Difference: a tower without a classifier has no such probabilities; the teacher's say is its soft assignment
of a picture to ``anchors`` spherical k-means centres of the training photos, at temperature ``sharpness``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softmax

from wildsight.estimators.registry import ABOVE_ZERO, at_least, check_ranges
from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, TermLearner
from wildsight.retrieval.methods import METHODS, TrainedMethod


@METHODS.register("sake")
@dataclass(frozen=True, kw_only=True)
class SAKE(TrainedMethod):
    """The SAKE-like loss with its hyper-parameters."""

    title = "keeps the teacher's knowledge"

    anchors: int = 64
    """Centres of the training photos that stand for the teacher's classes, at most, >= 1."""
    sharpness: float = 0.05
    """Temperature of the teacher's assignment, > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, anchors=at_least(1), sharpness=ABOVE_ZERO)

    def learner(self, plan: Plan, features: Tensor, modality: Tensor) -> Learner:
        """The learner; the anchors come from the training photos' features."""
        anchors = teacher_anchors(features[modality == 1], plan.seed, self.anchors)
        head = nn.Linear(plan.adapter.last.out_features, len(anchors))

        def term(z: Tensor, batch: Episode) -> Tensor:
            photo, teacher = batch["modality"] == 1, anchors.to(z.device)
            guess = self.scale * head(z[photo])
            return preserve(guess, batch["features"][photo], teacher, self.sharpness)

        return TermLearner(plan, term, head)


def teacher_anchors(features: Tensor, seed: int, count: int = 64) -> Tensor:
    """Unit k-means centres [A, D] of photo features [N, D]; A is at most ``count`` and N / 2."""
    from sklearn.cluster import KMeans

    unit = normalize(features, dim=1)
    count = max(1, min(count, len(unit) // 2))
    centres = KMeans(count, n_init=1, random_state=seed).fit(unit.numpy()).cluster_centers_
    return normalize(torch.from_numpy(centres).to(unit.dtype), dim=1)


def preserve(guess: Tensor, features: Tensor, anchors: Tensor, sharpness: float = 0.05) -> Tensor:
    """Cross-entropy of guessed logits [B, A] against the teacher's soft assignment of features [B, D]."""
    teacher = softmax(normalize(features, dim=1) @ anchors.T / sharpness, dim=1)
    return -(teacher * log_softmax(guess, dim=1)).sum(1).mean()
