"""The best candidates from a dense score matrix: what the blockwise search is compared with."""

from __future__ import annotations

import numpy as np

from wildsight.composition.metrics import Bools, Floats, Ints, Top


def top_of(scores: Floats, is_seen: Bools, truth: Ints, truth_seen: Bools, depth: int = 3) -> Top:
    """`Top` of a dense score matrix; ties go to the lowest id.

    Args:
        scores: [N, P], -inf for a candidate that is not allowed.
        is_seen: [P] bool.
        truth: [N] ids in [0, P), or -1.
        truth_seen: [N] bool.
        depth: candidates kept of each kind.
    """
    known = truth >= 0
    own = np.where(known, scores[np.arange(len(truth)), np.where(known, truth, 0)], -np.inf)
    seen, seen_pair = _best(scores, np.flatnonzero(is_seen), depth)
    unseen, unseen_pair = _best(scores, np.flatnonzero(~is_seen), depth)
    return Top(seen, seen_pair, unseen, unseen_pair, truth, truth_seen, own)


def _best(scores: Floats, columns: Ints, depth: int) -> tuple[Floats, Ints]:
    values = np.full((len(scores), depth), -np.inf)
    pairs = np.full((len(scores), depth), -1, dtype=np.int64)
    order = np.argsort(-scores[:, columns], axis=1, kind="stable")[:, :depth]
    found = np.take_along_axis(scores[:, columns], order, axis=1)
    allowed = np.isfinite(found)
    values[:, : found.shape[1]] = found
    pairs[:, : found.shape[1]] = np.where(allowed, columns[order] if len(columns) else -1, -1)
    return values, pairs
