"""The metrics of a fitted head on labelled pictures, in the closed and in the open world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wildsight.composition.metrics import (
    FORCED,
    Top,
    exact_scores,
    field_scores,
    harmonic,
    hits,
    query_recall,
    word_accuracy,
)
from wildsight.composition.modules import Head
from wildsight.composition.openworld import feasibility
from wildsight.composition.scoring import Candidates, dense, top
from wildsight.composition.vocabulary import Vocabulary
from wildsight.datasets.compositions import Pair

THRESHOLDS = 50
DEPTH = 3


@dataclass(frozen=True)
class Scorer:
    """A fitted head and what its scores are compared by.

    Attributes:
        head: fitted, in evaluation mode.
        vocabulary: its words and trained pairs.
        bias: added to unseen pairs in the metrics of one bias.
    """

    head: Head
    vocabulary: Vocabulary
    bias: float

    def top(
        self,
        features: Tensor,
        truth: Sequence[Pair],
        candidates: Candidates,
        allowed: Tensor | None = None,
    ) -> Top:
        """The best candidates of pictures [N, D] whose pairs are ``truth``; ``allowed`` [P] are feasible."""
        trained = set(self.vocabulary.seen)
        is_seen = np.array([p in trained for p in truth])
        ids = candidates.where(truth)
        return top(self.head, features, candidates, ids, is_seen, allowed=allowed, depth=DEPTH)

    def recalls(self, features: Tensor, candidates: Candidates, truth: np.ndarray) -> dict[str, float]:
        """Text to picture: recall at 1, 5 and 10 of the test's pairs as queries."""
        queries = np.unique(truth[truth >= 0])
        scores = dense(self.head, features, candidates.subset(queries)).numpy()
        return {f"recall@{k}": query_recall(scores, queries, truth, k) for k in (1, 5, 10)}

    def row(self, world: str, best: Top, candidates: Candidates, truth: Sequence[Pair]) -> dict[str, Any]:
        """All metrics of one world."""
        row: dict[str, Any] = {"world": world, "pictures": len(truth), "pairs": len(candidates.pairs)}
        row |= exact_scores(best)
        right = [hits(best, self.bias, k) for k in (1, 2, 3)]
        row |= {f"top{k}": float(h.mean()) for k, h in enumerate(right, start=1)}
        kinds = (best.truth_seen, ~best.truth_seen)
        seen, unseen = (float(right[0][m].mean()) if m.any() else 0.0 for m in kinds)
        mean = float(harmonic(np.array(seen), np.array(unseen)))
        row |= {"seen": seen, "unseen": unseen, "hm_calibrated": mean}
        for side, name in enumerate(("attribute", "object")):
            row |= self._word_row(side, name, best, candidates, truth)
        row |= {f"auc@{k}": exact_scores(best, k)["auc"] for k in (2, 3)}
        return row | field_scores(best)

    def _word_row(
        self, side: int, name: str, best: Top, candidates: Candidates, truth: Sequence[Pair]
    ) -> dict[str, float]:
        """Accuracies of the attribute (``side`` 0) or the object (1) by itself."""
        words = (self.vocabulary.attributes, self.vocabulary.objects)[side]
        index = {word: i for i, word in enumerate(words)}
        ids = candidates.ids[:, side].cpu().numpy()
        true_ids = np.array([index[pair[side]] for pair in truth])
        return {
            name: word_accuracy(best, ids, true_ids, 0.0),
            f"{name}_calibrated": word_accuracy(best, ids, true_ids, self.bias),
            f"{name}_forced": word_accuracy(best, ids, true_ids, FORCED),
        }

    @torch.no_grad()
    def _feasibilities(self, grid: Candidates) -> Tensor:
        """[P] feasibility of each candidate, +inf where it was trained."""
        table = feasibility(self.head.attributes(), self.head.objects(), grid.ids[grid.seen])
        return table[grid.ids[:, 0], grid.ids[:, 1]]

    def feasible(self, grid: Candidates, limit: float | None) -> Tensor:
        """[P] bool: the candidates whose feasibility is at least ``limit``; all where it is None."""
        if limit is None:
            return torch.ones_like(grid.seen)
        return self._feasibilities(grid) >= limit

    def best_limit(self, features: Tensor, truth: Sequence[Pair], grid: Candidates) -> float | None:
        """The least feasibility with the best AUC on validation pictures; None without an unseen pair.

        Args:
            features: [N, D] of the validation pictures. truth: their pairs.
            grid: every attribute with every object.
        """
        trained = set(self.vocabulary.seen)
        if not any(pair not in trained for pair in truth):
            return None
        values = self._feasibilities(grid)
        unseen = values[~grid.seen]
        highest, chosen = -1.0, None
        for limit in np.linspace(float(unseen.min()), float(unseen.max()), THRESHOLDS):
            score = exact_scores(self.top(features, truth, grid, values >= limit))["auc"]
            if score > highest:
                highest, chosen = score, float(limit)
        return chosen
