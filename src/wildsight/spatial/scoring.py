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
    """Scores per group, then together; for AP3D each question is a picture, its object the category."""
    groups = sorted({s.group for s in samples if s.group})
    rows = []
    for name in [*groups, ALL]:
        chosen = [i for i, s in enumerate(samples) if name in (ALL, s.group)]
        own, wanted = [found[i] for i in chosen], [samples[i].targets for i in chosen]
        scores = grounding_scores(own, wanted, None if parsed is None else [parsed[i] for i in chosen])
        scenes = [_scene(samples[i], found[i]) for i in chosen if samples[i].targets]
        scores |= {"ap3d": ap_3d(scenes)["ap"]} if scenes else {}
        rows.append({"group": name, "questions": len(chosen), **scores})
    return rows


def _scene(sample: SpatialSample, found: Sequence[Box]) -> Scene:
    name = sample.targets[0].name
    boxes = [replace(b, name=name) for b in found]
    return Scene(boxes, [replace(b, name=name) for b in sample.targets], camera=sample.camera)
