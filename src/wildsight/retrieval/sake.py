"""A loss that keeps the teacher's knowledge while the sketches are learned (peer, after SAKE).

Paper: "Semantic-Aware Knowledge Preservation for Zero-Shot Sketch-Based Image Retrieval", arXiv 1911.06474.
There an auxiliary head follows the ImageNet teacher's class probabilities.

Difference: a tower without a classifier has no such probabilities; the teacher's say is its soft assignment
of a picture to ``ANCHORS`` spherical k-means centres of the training photos, at temperature ``SHARPNESS``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softmax

from wildsight.retrieval.episodes import Episode
from wildsight.retrieval.learner import Learner, Plan, TermLearner

ANCHORS = 64
SHARPNESS = 0.05


def teacher_anchors(features: Tensor, seed: int) -> Tensor:
    """Unit k-means centres [A, D] of photo features [N, D]; A is at most ``ANCHORS`` and N / 2."""
    from sklearn.cluster import KMeans

    unit = normalize(features, dim=1)
    count = max(1, min(ANCHORS, len(unit) // 2))
    found = KMeans(count, n_init=1, random_state=seed).fit(unit.numpy())
    return normalize(torch.from_numpy(found.cluster_centers_).to(unit.dtype), dim=1)


def preserve(guess: Tensor, features: Tensor, anchors: Tensor) -> Tensor:
    """Cross-entropy of guessed logits [B, A] against the teacher's soft assignment of features [B, D]."""
    said = softmax(normalize(features, dim=1) @ anchors.T / SHARPNESS, dim=1)
    return -(said * log_softmax(guess, dim=1)).sum(1).mean()


def build(plan: Plan, features: Tensor, modality: Tensor) -> Learner:
    """The learner; the anchors come from the training photos' features."""
    anchors = teacher_anchors(features[modality == 1], plan.seed)
    head = nn.Linear(plan.adapter.last.out_features, len(anchors))

    def term(z: Tensor, batch: Episode) -> Tensor:
        photo = batch["modality"] == 1
        return preserve(plan.config.scale * head(z[photo]), batch["features"][photo], anchors.to(z.device))

    return TermLearner(plan, term, head)
