"""Scores of category discovery: one matching of groups to classes, and what each part of it is worth.

Classes are numbered with the known ones first: ids below ``known`` are known, the rest new. Groups are
numbered the same way by every method of this task: group ``i < known`` is the known class ``i``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wildsight.errors import DataError

Ids = NDArray[np.int64]


def contingency(pred: Ids, true: Ids) -> NDArray[np.int64]:
    """Counts [D, D] of (group, class), D = the largest id + 1.

    >>> contingency(np.array([0, 1, 1]), np.array([0, 0, 1])).tolist()
    [[1, 0], [1, 1]]
    """
    if pred.shape != true.shape or pred.ndim != 1 or not len(pred):
        raise DataError(f"{pred.shape} groups and {true.shape} classes", hint="give one of each per picture")
    if pred.min() < 0 or true.min() < 0:
        raise DataError("a negative group or class id", hint="number them from 0")
    size = int(max(pred.max(), true.max())) + 1
    return np.bincount(pred * size + true, minlength=size * size).reshape(size, size)


def matching(counts: NDArray[np.int64]) -> Ids:
    """class -> group of the matching with the most pictures (Hungarian)."""
    groups, classes = linear_sum_assignment(counts, maximize=True)
    match = np.empty(len(counts), np.int64)
    match[classes] = groups
    return match


def fixed_matching(counts: NDArray[np.int64], known: int) -> Ids:
    """class -> group with the known classes tied to their own groups; only the rest is matched."""
    known = min(known, len(counts))
    return np.concatenate([np.arange(known), known + matching(counts[known:, known:])])


def shares(counts: NDArray[np.int64], match: Ids, known: int) -> dict[str, float]:
    """Shares of the pictures matched: ``all``, ``old`` (of known classes) and ``new``; NaN where none is.

    Args:
        counts: `contingency`.
        match: class -> group.
        known: number of known classes.
    """
    hit, total = counts[match, np.arange(len(counts))], counts.sum(0)
    parts = {"all": slice(None), "old": slice(0, known), "new": slice(known, None)}
    return {k: _ratio(hit[s].sum(), total[s].sum()) for k, s in parts.items()}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def class_mean(counts: NDArray[np.int64], match: Ids, known: int) -> dict[str, float]:
    """v2b: the same matching, mean of per-class accuracies (for sets with a long tail)."""
    hit, total = counts[match, np.arange(len(counts))], counts.sum(0)
    rate = np.divide(hit, total, out=np.full(len(counts), np.nan), where=total > 0)
    parts = {"all": slice(None), "old": slice(0, known), "new": slice(known, None)}
    return {k: _mean(rate[s]) for k, s in parts.items()}


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def separate(pred: Ids, true: Ids, known: int) -> dict[str, float]:
    """v1: one matching for the known and another for the new classes, weighted; over-optimistic."""
    old = true < known
    parts = {}
    for name, chosen in (("old", old), ("new", ~old)):
        counts = contingency(pred[chosen], true[chosen]) if chosen.any() else None
        accuracy = None if counts is None else shares(counts, matching(counts), known)["all"]
        parts[name] = float("nan") if accuracy is None else accuracy
    weighted = [(parts["old"], old.sum()), (parts["new"], (~old).sum())]
    return {"all": float(sum(v * n for v, n in weighted if n) / len(true)), **parts}


def score(pred: Ids, true: Ids, known: int) -> dict[str, float]:
    """Every score of one grouping.

    Args:
        pred: [N] group ids; ids below ``known`` are the known classes.
        true: [N] class ids; ids below ``known`` are the known classes.
        known: number of known classes.

    Returns:
        ``all``, ``old``, ``new`` (v2, the headline), then the same with the prefixes ``fixed_``
        (v2_fixed: known classes keep their names), ``mean_`` (v2b) and ``v1_``. All in [0, 1].

    Raises:
        DataError: no pictures, or lengths that differ.

    >>> y, p = np.array([0,0,0,1,1,1,2,2,2,3,3,3]), np.array([0,0,1,1,1,1,3,3,2,2,2,2])
    >>> [round(score(p, y, 2)[k], 4) for k in ("all", "old", "new")]
    [0.8333, 0.8333, 0.8333]
    """
    counts = contingency(pred, true)
    match = matching(counts)
    forms = {
        "": shares(counts, match, known),
        "fixed_": shares(counts, fixed_matching(counts, known), known),
        "mean_": class_mean(counts, match, known),
        "v1_": separate(pred, true, known),
    }
    return {f"{prefix}{k}": v for prefix, form in forms.items() for k, v in form.items()}


def doubt_scores(pred: Ids, true: Ids, sure: np.ndarray, known: int) -> dict[str, float]:
    """How many pictures are beyond doubt, and how many of those keep the right name or group."""
    share = float(sure.mean())
    if not sure.any():
        return {"sure": share, "sure_fixed_all": float("nan")}
    return {"sure": share, "sure_fixed_all": score(pred[sure], true[sure], known)["fixed_all"]}
