"""The field's metrics, exact. Scores enter as the best seen and the best unseen candidates of each picture.

A bias ``b`` is added to the scores of unseen pairs; sweeping it trades seen against unseen accuracy.
Two protocols, named in every report: ``field`` is what published figures use, ``exact`` has no bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
FORCED = 1e3
"""The bias at which the field reads "best unseen" and one kind of attribute accuracy."""


@dataclass(frozen=True)
class Top:
    """The best candidates of N pictures, ``depth`` of each kind, best first.

    Attributes:
        seen, unseen: [N, depth] scores; -inf where there are fewer.
        seen_pair, unseen_pair: [N, depth] ids of the candidates; -1 where there are fewer.
        truth: [N] id of the true pair among the candidates; -1 when it is none of them.
        truth_seen: [N] bool, the true pair was trained.
        truth_score: [N] its score; -inf when it is no candidate.
    """

    seen: Floats
    seen_pair: Ints
    unseen: Floats
    unseen_pair: Ints
    truth: Ints
    truth_seen: Bools
    truth_score: Floats


def turning_points(top: Top, k: int = 1) -> tuple[Floats, Floats]:
    """The bias at which each correct picture stops, or starts, to be correct.

    Returns:
        (d of the seen pictures: correct for b <= d; d of the unseen ones: correct for b > d). Pictures
        that are wrong at every bias are left out.
    """
    seen_hit, unseen_hit = [], []
    for rank in range(k):
        other = k - 1 - rank
        mine = top.truth_seen & (top.truth >= 0) & (top.seen_pair[:, rank] == top.truth)
        seen_hit.append(top.seen[mine, rank] - top.unseen[mine, other])
        mine = ~top.truth_seen & (top.truth >= 0) & (top.unseen_pair[:, rank] == top.truth)
        unseen_hit.append(top.seen[mine, other] - top.unseen[mine, rank])
    return np.concatenate(seen_hit), np.concatenate(unseen_hit)


def curve(top: Top, k: int = 1) -> tuple[Floats, Floats, Floats]:
    """Seen and unseen accuracy at every bias where either changes.

    Returns:
        (bias, seen accuracy, unseen accuracy), bias ascending and ending in +inf.
    """
    until, beyond = turning_points(top, k)
    bias = np.unique(np.concatenate([until, beyond, [-np.inf, np.inf]]))
    seen = len(until) - np.searchsorted(np.sort(until), bias, side="left")
    unseen = np.searchsorted(np.sort(beyond), bias, side="left")
    count = max(1, int(top.truth_seen.sum())), max(1, int((~top.truth_seen).sum()))
    return bias, seen / count[0], unseen / count[1]


def exact_scores(top: Top, k: int = 1) -> dict[str, float]:
    """AUC as a pair count, best harmonic mean, best seen and best unseen accuracy; all in [0, 1].

    ``AUC = sum over correct seen i, correct unseen j of 1[d_i > d_j] + 1/2 1[d_i = d_j], / (N_s N_u)``.
    """
    until, beyond = turning_points(top, k)
    total = int(top.truth_seen.sum()) * int((~top.truth_seen).sum())
    order = np.sort(beyond)
    below = np.searchsorted(order, until, side="left")
    equal = np.searchsorted(order, until, side="right") - below
    _, seen, unseen = curve(top, k)
    return {
        "auc": float((below + 0.5 * equal).sum() / total) if total else 0.0,
        "hm": float(harmonic(seen, unseen).max()),
        "best_seen": float(seen.max()),
        "best_unseen": float(unseen.max()),
    }


def harmonic(a: Floats, b: Floats) -> Floats:
    """Harmonic mean, 0 where both are 0."""
    total = np.asarray(a + b, dtype=float)
    return np.divide(2 * a * b, total, out=np.zeros_like(total), where=total > 0)


def hits(top: Top, bias: float, k: int = 1) -> Bools:
    """[N] bool: the true pair is among the best ``k`` when ``bias`` is added to unseen pairs."""
    return np.asarray((predicted(top, bias, k) == top.truth[:, None]).any(1) & (top.truth >= 0))


def predicted(top: Top, bias: float, k: int = 1) -> Ints:
    """[N, k] ids, best first; a seen pair wins a tie."""
    scores = np.concatenate([top.seen, top.unseen + bias], axis=1)
    pairs = np.concatenate([top.seen_pair, top.unseen_pair], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.asarray(np.take_along_axis(pairs, order, axis=1))


def field_scores(top: Top, k: int = 1) -> dict[str, float]:
    """The evaluator that published figures come from: about 21 biases, an offset of 1e-4, +1000 last.

    Its values depend on the scale of the scores (the offset is absolute), so report that scale with them.
    """
    unseen = ~top.truth_seen
    forced = hits(top, FORCED, k) & unseen
    gaps = np.sort(top.seen[forced, k - 1] - top.truth_score[forced] - 1e-4)
    biases = [*gaps[:: max(len(gaps) // 20, 1)].tolist(), FORCED]
    count = max(1, int(top.truth_seen.sum())), max(1, int(unseen.sum()))
    found = [hits(top, bias, k) for bias in biases]
    seen = np.array([(h & top.truth_seen).sum() / count[0] for h in found])
    new = np.array([(h & unseen).sum() / count[1] for h in found])
    return {
        "field_auc": float(abs(np.trapezoid(seen, new))),
        "field_hm": float(harmonic(seen, new).max()),
        "field_best_seen": float(seen.max()),
        "field_best_unseen": float(new.max()),
    }


def best_bias(top: Top) -> float:
    """The finite bias with the best harmonic mean; 0 where a kind is absent. Middle of the best interval."""
    bias, seen, unseen = curve(top)
    mean = harmonic(seen, unseen)
    if mean.max() <= 0:
        return 0.0
    at = int(mean.argmax())
    low, high = bias[at - 1] if at else -np.inf, bias[at]
    if np.isfinite(low) and np.isfinite(high):
        return float((low + high) / 2)
    return float(high if np.isfinite(high) else low + 1e-6 if np.isfinite(low) else 0.0)


def word_accuracy(top: Top, words: Ints, truth: Ints, bias: float) -> float:
    """Share of pictures whose best pair has the right attribute (or object).

    Args:
        top: the candidates.
        words: [P] attribute (or object) id of each candidate pair.
        truth: [N] the right one.
        bias: added to unseen pairs: 0, or `FORCED` as one published evaluator does.
    """
    best = predicted(top, bias)[:, 0]
    return float(((best >= 0) & (words[best] == truth)).mean())


def query_recall(scores: Floats, queries: Ints, truth: Ints, depth: int) -> float:
    """Share of the pairs asked for whose best ``depth`` pictures hold one that shows the pair.

    Args:
        scores: [N, Q], of every picture for every query.
        queries: [Q] ids of the pairs asked for, each shown by at least one picture.
        truth: [N] ids.
    """
    best = np.argsort(-scores, axis=0, kind="stable")[:depth]
    return float((truth[best] == queries).any(0).mean())
