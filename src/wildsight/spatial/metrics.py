"""The field's metrics for boxes in metres, exact; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wildsight.spatial.boxes import Array, Box, stacked
from wildsight.spatial.camera import Camera
from wildsight.spatial.iou3d import iou_3d

THRESHOLDS = (0.25, 0.5)


def iou_of(one: Sequence[Box], two: Sequence[Box]) -> Array:
    """Exact IoU [N] of N pairs."""
    return iou_3d(*stacked(one), *stacked(two))


def released_iou(one: Sequence[Box], two: Sequence[Box]) -> Array:
    """IoU [N] as Mono3DVG's published tester computes it: the rotation is ignored, and the extents along
    (x, y, z) are (height, width, length). Only for comparison with published figures."""
    a, b = ([(x.centre, x.size[[1, 2, 0]]) for x in boxes] for boxes in (one, two))
    low, high = (np.array([[c + sign * s / 2 for c, s in boxes] for boxes in (a, b)]) for sign in (-1.0, 1.0))
    shared = np.clip(high.min(0) - low.max(0), 0, None).prod(-1)
    volumes = (high - low).prod(-1)
    union: Array = volumes.sum(0) - shared
    return np.divide(shared, union, out=np.zeros(len(one)), where=union > 0)


def yaw_error(one: float, two: float) -> float:
    """Difference of two yaws in radians, of boxes that look the same turned by half a turn: 0 to pi/2.

    >>> round(yaw_error(3.1, 0.0), 4)
    0.0416
    """
    gap = abs(one - two) % np.pi
    return float(min(gap, np.pi - gap))


def matched(found: Sequence[Box], wanted: Sequence[Box]) -> list[Box | None]:
    """For each wanted box the found one that shares most volume with it, else the nearest; one each."""
    if len(wanted) == 1:
        best = max(found, key=lambda b: b.score, default=None)
        return [best]
    rest, out = list(found), []
    for want in wanted:
        best = max(rest, default=None, key=lambda b: (float(iou_of([b], [want])[0]), -_gap(b, want)))
        out.append(best)
        if best is not None:
            rest.remove(best)
    return out


def _gap(one: Box, two: Box) -> float:
    return float(np.linalg.norm(one.centre - two.centre))


def pair_errors(found: Box, want: Box) -> dict[str, float]:
    """Errors of one box: metres, radians, shares."""
    depth = abs(float(found.centre[2] - want.centre[2]))
    gaps = np.abs(found.size - want.size)
    footprint = np.abs(np.sort(found.size[[0, 2]]) - np.sort(want.size[[0, 2]]))
    return {
        "depth": depth,
        "depth_relative": depth / float(want.centre[2]),
        "centre": _gap(found, want),
        "length": float(gaps[0]),
        "height": float(gaps[1]),
        "width": float(gaps[2]),
        "size": float(gaps.mean()),
        "footprint": float(footprint.mean()),
        "yaw": yaw_error(found.yaw, want.yaw),
    }


def grounding_scores(
    found: Sequence[Sequence[Box]], wanted: Sequence[Sequence[Box]], parsed: Sequence[bool] | None = None
) -> dict[str, float]:
    """Scores over Q questions.

    Args:
        found: boxes given, for each question.
        wanted: boxes asked for; none where a refusal is right.
        parsed: whether each answer could be read at all, for answers in text.

    Returns:
        ``acc@0.25`` and ``acc@0.5`` (IoU strictly above), ``iou``, and ``acc_released@0.25`` and ``@0.5``
        (see `released_iou`) over all boxes asked for, a missing one counting 0; ``parsed``: share of answers
        that could be read; ``refusal``: share of questions with nothing to find that were refused;
        ``found``: share of boxes with an answer; mean errors over those (see `pair_errors`);
        ``within_spread``: share of those with a spread whose depth is off by less than it (.76 where the
        spread is the standard deviation of Laplace errors, .68 of normal ones).
    """
    pairs = [p for f, w in zip(found, wanted, strict=True) if w for p in zip(matched(f, w), w, strict=True)]
    there = [(f, w) for f, w in pairs if f is not None]
    ious = np.zeros(len(pairs))
    released = np.zeros(len(pairs))
    if there:
        hit = np.array([f is not None for f, _ in pairs])
        ious[hit] = iou_of([f for f, _ in there], [w for _, w in there])
        released[hit] = released_iou([f for f, _ in there], [w for _, w in there])
    scores: dict[str, float] = {}
    if pairs:
        scores = {f"acc@{t:g}": float((ious > t).mean()) for t in THRESHOLDS}
        scores |= {"iou": float(ious.mean())}
        scores |= {f"acc_released@{t:g}": float((released > t).mean()) for t in THRESHOLDS}
        scores["found"] = len(there) / len(pairs)
    empty = [not f for f, w in zip(found, wanted, strict=True) if not w]
    if empty:
        scores["refusal"] = float(np.mean(empty))
    if parsed is not None and len(parsed):
        scores["parsed"] = float(np.mean(list(parsed)))
    errors = [pair_errors(f, w) for f, w in there]
    within = [e["depth"] <= f.spread for e, (f, _) in zip(errors, there, strict=True) if f.spread > 0]
    scores |= {"within_spread": float(np.mean(within))} if within else {}
    scores |= {f"{k}_error": float(np.mean([e[k] for e in errors])) for k in (errors[0] if errors else ())}
    return scores


def best_iou(found: Sequence[Box], wanted: Sequence[Box]) -> float:
    """Mean IoU of one question, a missing box counting 0; for a refusal 1 or 0."""
    if not wanted:
        return float(not found)
    pairs = [(f, w) for f, w in zip(matched(found, wanted), wanted, strict=True) if f is not None]
    return float(iou_of(*zip(*pairs, strict=True)).sum()) / len(wanted) if pairs else 0.0


def box_2d_iou(one: Array, two: Array) -> Array:
    """IoU [N, M] of (left, top, right, bottom) boxes [N, 4] and [M, 4]."""
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(-1) for b in (one, two)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)


def bounds_of(boxes: Sequence[Box], camera: Camera) -> Array:
    """2D boxes [N, 4] of the projections, pixels."""
    rows = [b.bounds(camera.matrix, camera.width, camera.height) for b in boxes]
    return np.stack(rows) if rows else np.zeros((0, 4))
