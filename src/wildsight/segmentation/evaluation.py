"""How outlines are scored: prompts from the true masks (an oracle), IoU and boundary IoU of both passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wildsight.errors import ConfigError, DataError, WildSightError
from wildsight.segmentation.data import MaskSample, SegmentationData, path_hash
from wildsight.segmentation.lessons import checked_mask
from wildsight.segmentation.metrics import boundary_iou, iou, mean_rows
from wildsight.segmentation.prompts import components, jittered, points_on, tight_box
from wildsight.segmentation.result import Evaluation, SegmentationResult
from wildsight.training.progress import Meter

if TYPE_CHECKING:
    from wildsight.segmentation.segmenter import AnomalySegmenter

KEYS = ("iou", "boundary_iou", "draft_iou", "draft_boundary_iou")
PROMPTS = ("box", "points")
BATCH = 4


def evaluate_samples(
    segmenter: AnomalySegmenter,
    data: SegmentationData,
    *,
    prompt: str,
    points: int,
    box_jitter: float,
    per_component: bool,
    keep: bool,
    progress: bool,
) -> Evaluation:
    """Score a segmenter on the test half of ``data``; see `AnomalySegmenter.evaluate`."""
    if prompt not in PROMPTS:
        raise ConfigError(f"no prompt is called {prompt!r}", hint=f"use one of {', '.join(PROMPTS)}")
    if points < 1 or not 0.0 <= box_jitter < 0.5:
        raise ConfigError(f"points={points}, box_jitter={box_jitter}", hint="give at least 1, and [0, 0.5)")
    rows: list[dict[str, Any]] = []
    results: list[SegmentationResult] = []
    errors: list[str] = []
    with Meter("evaluate", len(data.test), enabled=progress) as meter:
        for start in range(0, len(data.test), BATCH):
            meter.update(start)
            chosen, masks = _readable(data.test[start : start + BATCH], errors)
            if not chosen:
                continue
            asked = [
                _oracle(m, s, data.root, prompt, points, box_jitter, per_component)
                for s, m in zip(chosen, masks, strict=True)
            ]
            found = segmenter.predict([s.image for s in chosen], **{_ARGUMENT[prompt]: asked})
            rows += [_row(s, m, r) for s, m, r in zip(chosen, masks, found, strict=True)]
            results += found if keep else []
    if not rows:
        raise DataError("no usable test picture", where=data.root, hint="run `wildsight check segmentation`")
    shown = "tight box" if prompt == "box" else f"{points} points"
    protocol = {
        **data.protocol,
        "prompt": f"ORACLE: {shown} of the true mask{', per component' if per_component else ''}",
        "box_jitter": box_jitter,
    }
    return Evaluation(mean_rows(rows, KEYS), rows, results, errors, protocol)


_ARGUMENT = {"box": "boxes", "points": "points"}


def _readable(
    samples: tuple[MaskSample, ...], errors: list[str]
) -> tuple[list[MaskSample], list[NDArray[np.bool_]]]:
    chosen, masks = [], []
    for sample in samples:
        try:
            masks.append(checked_mask(sample))
            chosen.append(sample)
        except WildSightError as error:
            errors.append(str(error))
    return chosen, masks


def _oracle(
    mask: NDArray[np.bool_],
    sample: MaskSample,
    root: Path,
    prompt: str,
    points: int,
    box_jitter: float,
    per_component: bool,
) -> list[Any]:
    """The prompts of one picture; random draws come from a hash of its path."""
    rng = np.random.default_rng(int(path_hash(sample.image.relative_to(root))[:16], 16))
    parts = components(mask) if per_component else [mask]
    if prompt == "points":
        return [points_on(part, points, rng).tolist() for part in parts]
    size = (mask.shape[1], mask.shape[0])
    boxes = [tight_box(part) for part in parts]
    return [jittered(b, box_jitter, size, rng) for b in boxes] if box_jitter else list(boxes)


def _row(sample: MaskSample, mask: NDArray[np.bool_], result: SegmentationResult) -> dict[str, Any]:
    return {
        "image": str(sample.image),
        "category": sample.category,
        "defect": sample.defect,
        **scores(mask, result.mask, result.draft),
    }


def scores(truth: NDArray[np.bool_], final: NDArray[np.bool_], draft: NDArray[np.bool_]) -> dict[str, float]:
    """IoU and boundary IoU of the final mask and of the draft."""
    values = (iou(truth, final), boundary_iou(truth, final), iou(truth, draft), boundary_iou(truth, draft))
    return dict(zip(KEYS, values, strict=True))
