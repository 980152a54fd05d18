"""AP3D as Omni3D defines it: COCO's matching with exact 3D IoU; no torch.

Per picture and category, detections are matched by falling score to the labelled box they share most
with, at ten thresholds from 0.05 to 0.50; precision is read at 101 recalls; the mean is over categories
that have labels. Depth ranges are closed on both sides. KITTI's own AP (0.7 and 0.5, 40 recalls) is
another metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.spatial.boxes import Array, Box, stacked
from wildsight.spatial.camera import Camera
from wildsight.spatial.iou3d import iou_3d_matrix
from wildsight.spatial.metrics import bounds_of, box_2d_iou

THRESHOLDS = np.linspace(0.05, 0.5, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
RANGES: Mapping[str, tuple[float, float]] = {
    "all": (-1e5, 1e5),
    "near": (0.0, 10.0),
    "medium": (10.0, 35.0),
    "far": (35.0, 1e5),
}
NEARNESS = 0.3  # 2D IoU that a match needs where labels are not exhaustive


@dataclass(frozen=True)
class Scene:
    """Detections and labels of one picture.

    Attributes:
        found: detections, with names and scores.
        wanted: labelled boxes.
        ignored: labelled boxes that may be found or not.
        camera: only needed where a match must also be near in the picture.
    """

    found: Sequence[Box]
    wanted: Sequence[Box]
    ignored: Sequence[Box] = ()
    camera: Camera | None = None


def ap_3d(scenes: Sequence[Scene], *, proximity: bool = False) -> dict[str, float]:
    """AP3D in [0, 1], at single thresholds and by depth.

    Args:
        scenes: one per picture.
        proximity: a pair may match only where its 2D boxes share more than 0.3 (SUN RGB-D, Objectron).

    Returns:
        ``ap``, ``ap@0.15``, ``ap@0.25``, ``ap@0.5``, and ``ap_near``, ``ap_medium``, ``ap_far``; NaN where no
        labelled box is in range.
    """
    names = sorted({b.name for s in scenes for b in s.wanted})
    tables = {n: [_Table.of(s, n, proximity) for s in scenes] for n in names}
    whole = np.array([_category(t, RANGES["all"]) for t in tables.values()]).reshape(-1, len(THRESHOLDS))
    out = {"ap": _mean(whole)}
    for level in (0.15, 0.25, 0.5):
        out[f"ap@{level:g}"] = _mean(whole[:, int(np.abs(THRESHOLDS - level).argmin())])
    for name in ("near", "medium", "far"):
        rows = [_category(t, RANGES[name]) for t in tables.values()]
        out[f"ap_{name}"] = _mean(np.array(rows).reshape(-1, len(THRESHOLDS)))
    return out


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class _Table:
    """One picture and category: scores and depths by falling score, IoU [D, G], depths and ignore of
    labels."""

    scores: Array
    depths: Array
    iou: Array
    label_depths: Array
    ignored: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, scene: Scene, name: str, proximity: bool) -> _Table:
        found = sorted((b for b in scene.found if b.name == name), key=lambda b: -b.score)[:MOST]
        labels = [b for b in scene.wanted if b.name == name]
        skipped = [b for b in scene.ignored if b.name == name]
        labels, ignored = [*labels, *skipped], np.array([False] * len(labels) + [True] * len(skipped))
        iou = iou_3d_matrix(*stacked(found), *stacked(labels))
        if proximity and scene.camera is not None and iou.size:
            near = box_2d_iou(bounds_of(found, scene.camera), bounds_of(labels, scene.camera))
            iou = np.where(near > NEARNESS, iou, 0.0)
        scores, depths = (np.array([f(b) for b in found], float) for f in (_score, _depth))
        return cls(scores, depths, iou, np.array([_depth(b) for b in labels], float), ignored.astype(bool))


def _score(box: Box) -> float:
    return box.score


def _depth(box: Box) -> float:
    return float(box.centre[2])


def _category(tables: Sequence[_Table], depth: tuple[float, float]) -> list[float]:
    """AP of one category at each threshold; NaN where no label is in range."""
    parts = [_match(t, depth) for t in tables]
    positives = sum(int((~_outside(t, depth)).sum()) for t in tables)
    if not positives:
        return [float("nan")] * len(THRESHOLDS)
    scores = np.concatenate([t.scores for t in tables])
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([p[0] for p in parts], 1)[:, order]
    skips = np.concatenate([p[1] for p in parts], 1)[:, order]
    return [_average(h[~s], positives) for h, s in zip(hits, skips, strict=True)]


def _outside(table: _Table, depth: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Labels that are ignored in this range."""
    low, high = depth
    outside: npt.NDArray[np.bool_] = table.ignored | (table.label_depths < low) | (table.label_depths > high)
    return outside


def _match(table: _Table, depth: tuple[float, float]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For each threshold and detection: whether it hits a label, and whether it does not count."""
    shape = (len(THRESHOLDS), len(table.scores))
    hits, skips = np.zeros(shape, bool), np.zeros(shape, bool)
    outside = _outside(table, depth)
    far = (table.depths < depth[0]) | (table.depths > depth[1])
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(outside), bool)
        for d in range(len(table.scores)):
            label = _best(table.iou[d], taken, outside, min(float(threshold), 1 - 1e-10))
            if label is None:
                skips[t, d] = far[d]
                continue
            taken[label] = True
            hits[t, d], skips[t, d] = not outside[label], outside[label]
    return hits, skips


def _best(
    iou: Array, taken: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_], threshold: float
) -> int | None:
    """The free label that shares most, at least ``threshold``; one that counts goes before one that does
    not."""
    for group in (~outside & ~taken, outside & ~taken):
        fit = np.where(group & (iou >= threshold), iou, -1.0)
        if fit.size and fit.max() >= 0:
            return int(fit.argmax())
    return None


def _average(hits: npt.NDArray[np.bool_], positives: int) -> float:
    """Mean precision at 101 recalls, the best to the right of each."""
    if not hits.size:
        return 0.0
    true = hits.cumsum()
    recall, precision = true / positives, true / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.concatenate((best, [0.0]))[np.minimum(places, len(best))].mean())
