"""From a head and features to the candidates that win: dense for a few pictures, streamed for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wildsight.composition.metrics import Top
from wildsight.composition.modules import Factors, Head, Pairs, pair_scores
from wildsight.composition.openworld import stream_top
from wildsight.datasets.compositions import Pair

ROWS = 256
BLOCK = 8192


@dataclass(frozen=True)
class Candidates:
    """The pairs that a picture may be.

    Attributes:
        pairs: in words.
        ids: [P, 2] attribute and object ids.
        seen: [P] bool, trained.
        base: [P, D] text features; None without a text tower.
        prototypes: [P, d], made once by `prepared`; None before, or where a method has none.
    """

    pairs: tuple[Pair, ...]
    ids: Tensor
    seen: Tensor
    base: Tensor | None
    prototypes: Tensor | None = None

    @torch.no_grad()
    def prepared(self, head: Head) -> Candidates:
        """The same with the head's prototypes, on the head's device."""
        moved = self.to(head.device)
        prototypes = []
        for start in range(0, len(moved.ids), BLOCK):
            part = slice(start, start + BLOCK)
            base = None if moved.base is None else moved.base[part]
            block = head.prototypes(Pairs(moved.ids[part], base))
            if block is not None:
                prototypes.append(block)
        return replace(moved, prototypes=torch.cat(prototypes) if prototypes else None)

    def to(self, device: torch.device | str) -> Candidates:
        """The same on another device."""
        base, prototypes = (None if t is None else t.to(device) for t in (self.base, self.prototypes))
        return replace(
            self,
            ids=self.ids.to(device),
            seen=self.seen.to(device),
            base=base,
            prototypes=prototypes,
        )

    def subset(self, chosen: np.ndarray) -> Candidates:
        """Some of the candidates, by id, in the order given."""
        rows = torch.from_numpy(chosen).to(self.ids.device)
        pairs = tuple(self.pairs[i] for i in chosen.tolist())
        base, made = (None if t is None else t[rows] for t in (self.base, self.prototypes))
        return Candidates(pairs, self.ids[rows], self.seen[rows], base, made)

    def where(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[N] candidate ids of pairs in words; -1 for a pair that is no candidate."""
        index = {pair: i for i, pair in enumerate(self.pairs)}
        return np.array([index.get(pair, -1) for pair in pairs], dtype=np.int64)


@torch.no_grad()
def dense(head: Head, features: Tensor, candidates: Candidates) -> Tensor:
    """Scores [B, P] of a few pictures, on the CPU."""
    factors = head.factors(features.to(head.device))
    return pair_scores(factors, candidates.ids, candidates.prototypes).cpu()


@torch.no_grad()
def top(
    head: Head,
    features: Tensor,
    candidates: Candidates,
    truth: np.ndarray,
    truth_seen: np.ndarray,
    *,
    allowed: Tensor | None = None,
    depth: int = 3,
) -> Top:
    """The best seen and unseen candidates of many pictures, in blocks of pictures and of candidates.

    Args:
        head: fitted, in evaluation mode.
        features: [N, D].
        candidates: prepared.
        truth: [N] ids of the true pairs, -1 where they are no candidates. truth_seen: [N] bool.
        allowed: [P] bool, the feasible candidates; None allows all.
        depth: candidates kept of each kind.
    """
    best, own_scores = [], []
    for start in range(0, len(features), ROWS):
        factors = head.factors(features[start : start + ROWS].to(head.device))
        best.append(
            stream_top(
                factors,
                candidates.ids,
                candidates.seen,
                lambda part: None if candidates.prototypes is None else candidates.prototypes[part],
                allowed=allowed,
                depth=depth,
            )
        )
        own_scores.append(_own_score(factors, candidates, truth[start : start + ROWS]))
    seen, seen_pair, unseen, unseen_pair = (torch.cat(c).cpu().numpy() for c in zip(*best, strict=True))
    score = np.concatenate(own_scores)
    if allowed is not None:
        score = np.where(allowed.cpu().numpy()[np.maximum(truth, 0)] & (truth >= 0), score, -np.inf)
    return Top(
        seen.astype(np.float64),
        seen_pair,
        unseen.astype(np.float64),
        unseen_pair,
        truth,
        truth_seen,
        score,
    )


def _own_score(factors: Factors, candidates: Candidates, truth: np.ndarray) -> np.ndarray:
    """[B] score of each picture's true pair, -inf where it is no candidate."""
    unique, inverse = np.unique(np.maximum(truth, 0), return_inverse=True)
    ids = torch.from_numpy(unique).to(candidates.ids.device)
    prototypes = None if candidates.prototypes is None else candidates.prototypes[ids]
    score = pair_scores(factors, candidates.ids[ids], prototypes).cpu().numpy().astype(np.float64)
    return np.where(truth >= 0, score[np.arange(len(truth)), inverse], -np.inf)
