"""Evaluation of a fitted recognizer on labelled pictures, in the closed and in the open world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wildsight.composition.data import PairData
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
from wildsight.composition.openworld import feasibility
from wildsight.composition.result import Evaluation
from wildsight.composition.scoring import Candidates, dense, top
from wildsight.datasets.compositions import Pair
from wildsight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from wildsight.composition.recognizer import CompositionRecognizer

THRESHOLDS = 50
DEPTH = 3


def evaluate_on(
    model: CompositionRecognizer, data: PairData, open_world: bool, limit: float | str | None
) -> Evaluation:
    """Score the test pictures of ``data``; see `CompositionRecognizer.evaluate`."""
    samples, features = model.readable(data.part("test"))
    if not samples:
        raise DataError("no readable test picture", where=data.root, hint="run `wildsight check composition`")
    truth = [s.pair for s in samples]
    closed = model.candidates(data.candidates("test"))
    found = _top(model, features, truth, closed, None)
    bias = model.calibration.bias
    rows = [
        _row("closed", found, closed, model, truth, bias) | _recalls(model, features, closed, found.truth)
    ]
    protocol = {**data.protocol, "bias from": model.calibration.source}
    if open_world:
        grid = model.candidates("all")
        allowed, used = _feasible(model, data, grid, limit)
        rows.append(_row("open", _top(model, features, truth, grid, allowed), grid, model, truth, bias))
        protocol["open world"] = f"{len(grid.pairs)} pairs, {int(allowed.sum())} feasible, limit {used}"
    absent = len(data.part("test")) - len(samples)
    errors = [f"{absent} test pictures could not be read"] if absent else []
    return Evaluation(rows, found, closed, bias, samples, errors, protocol)


def _top(
    model: CompositionRecognizer,
    features: Tensor,
    truth: list[Pair],
    candidates: Candidates,
    allowed: Tensor | None,
) -> Top:
    trained = set(model.knowledge.seen)
    is_seen = np.array([p in trained for p in truth])
    head = model.fitted()
    return top(head, features, candidates, candidates.where(truth), is_seen, allowed=allowed, depth=DEPTH)


def _recalls(
    model: CompositionRecognizer, features: Tensor, candidates: Candidates, truth: np.ndarray
) -> dict[str, float]:
    """Text to picture: recall at 1, 5 and 10 of the test's pairs as queries."""
    queries = np.unique(truth[truth >= 0])
    scores = dense(model.fitted(), features, candidates.subset(queries)).numpy()
    return {f"recall@{k}": query_recall(scores, queries, truth, k) for k in (1, 5, 10)}


def _row(
    world: str,
    found: Top,
    candidates: Candidates,
    model: CompositionRecognizer,
    truth: list[Pair],
    bias: float,
) -> dict[str, Any]:
    """All metrics of one world."""
    words = [
        {w: i for i, w in enumerate(many)} for many in (model.knowledge.attributes, model.knowledge.objects)
    ]
    row: dict[str, Any] = {"world": world, "pictures": len(truth), "pairs": len(candidates.pairs)}
    row |= exact_scores(found)
    right = [hits(found, bias, k) for k in (1, 2, 3)]
    row |= {f"top{k}": float(h.mean()) for k, h in enumerate(right, start=1)}
    seen, unseen = (
        float(right[0][m].mean()) if m.any() else 0.0 for m in (found.truth_seen, ~found.truth_seen)
    )
    row |= {
        "seen": seen,
        "unseen": unseen,
        "hm_calibrated": float(harmonic(np.array(seen), np.array(unseen))),
    }
    for side, name in enumerate(("attribute", "object")):
        ids = candidates.ids[:, side].numpy()
        own = np.array([words[side][p[side]] for p in truth])
        row[name] = word_accuracy(found, ids, own, 0.0)
        row[f"{name}_calibrated"] = word_accuracy(found, ids, own, bias)
        row[f"{name}_forced"] = word_accuracy(found, ids, own, FORCED)
    row |= {f"auc@{k}": exact_scores(found, k)["auc"] for k in (2, 3)}
    return row | field_scores(found)


def _feasible(
    model: CompositionRecognizer, data: PairData, grid: Candidates, limit: float | str | None
) -> tuple[Tensor, float | None]:
    """[P] bool of the feasible pairs of the grid, and the limit used."""
    head = model.fitted()
    with torch.no_grad():
        seen_ids = grid.ids[grid.seen]
        value = feasibility(head.attributes(), head.objects(), seen_ids)[grid.ids[:, 0], grid.ids[:, 1]]
    if isinstance(limit, str) and limit != "validation":
        raise ConfigError(f"feasibility={limit!r} is no limit", hint="give a number, or 'validation'")
    if isinstance(limit, str):
        limit = _chosen_limit(model, data, grid, value)
    if limit is None:
        return torch.ones(len(value), dtype=torch.bool), None
    return value >= limit, limit


def _chosen_limit(
    model: CompositionRecognizer, data: PairData, grid: Candidates, value: Tensor
) -> float | None:
    """The limit with the best validation AUC; None where validation has no unseen pair."""
    trained = set(model.knowledge.seen)
    samples, features = model.readable(data.part("val"))
    if not any(s.pair not in trained for s in samples):
        return None
    unseen = value[~grid.seen]
    best, chosen = -1.0, None
    for limit in np.linspace(float(unseen.min()), float(unseen.max()), THRESHOLDS):
        found = _top(model, features, [s.pair for s in samples], grid, value >= limit)
        score = exact_scores(found)["auc"]
        if score > best:
            best, chosen = score, float(limit)
    return chosen
