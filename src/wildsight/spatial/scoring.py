"""Answers to questions as rows of scores, per group and together; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wildsight.spatial.ap3d import Scene, ap_3d
from wildsight.spatial.boxes import Box
from wildsight.spatial.metrics import grounding_scores
from wildsight.spatial.samples import SpatialSample

ALL = "all"


def grouped(
    samples: Sequence[SpatialSample],
    found: Sequence[tuple[Box, ...]],
    parsed: Sequence[bool] | None = None,
) -> list[dict[str, Any]]:
    """Scores per group and per further subset, then together.

    ``ap_asked`` is AP3D over the answers: each question is a picture, the boxes asked for are its labels, all
    of one category; an answer to a question about nothing is a false one. It is not Omni3D's AP3D, which
    counts all labelled boxes of a picture: `wildsight.spatial.ap3d` computes that from detections.
    """
    groups = sorted({s.group for s in samples if s.group})
    subsets = sorted({t for s in samples for t in s.subsets} - set(groups))
    rows = []
    for name in [*groups, *subsets, ALL]:
        chosen = [i for i, s in enumerate(samples) if name in (ALL, s.group, *s.subsets)]
        own, wanted = [found[i] for i in chosen], [samples[i].targets for i in chosen]
        scores = grounding_scores(own, wanted, None if parsed is None else [parsed[i] for i in chosen])
        if any(wanted):
            scenes = [Scene(_as_one(f), _as_one(w)) for f, w in zip(own, wanted, strict=True)]
            scores["ap_asked"] = ap_3d(scenes)["ap"]
        rows.append({"group": name, "questions": len(chosen), **scores})
    return rows


def _as_one(boxes: Sequence[Box]) -> list[Box]:
    """The same boxes, all of one category."""
    return [replace(b, name="asked") for b in boxes]
