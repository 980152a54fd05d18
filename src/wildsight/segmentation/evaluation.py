"""How outlines are scored: prompts from the true masks (an oracle), IoU and boundary IoU of both passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.errors import DataError, WildSightError
from wildsight.estimators.registry import Range, at_least, check_ranges, unknown_name
from wildsight.segmentation.data import MaskSample, SegmentationData, path_hash
from wildsight.segmentation.metrics import boundary_iou, iou, mean_rows
from wildsight.segmentation.prompts import components, jittered, points_on, tight_box
from wildsight.segmentation.result import SegmentationEvaluation, SegmentationResult
from wildsight.segmentation.training_samples import checked_mask
from wildsight.training.progress import Meter

KEYS = ("iou", "boundary_iou", "draft_iou", "draft_boundary_iou")
PROMPTS = ("box", "points")
SPLITS = ("test", "train")
BATCH = 4


@dataclass(frozen=True)
class OraclePrompts:
    """Prompts made of true masks.

    Attributes:
        kind: ``box`` (the tight box) or ``points`` (random points on the defect).
        points: how many of them.
        box_jitter: the box's edges move by up to this share of its sides.
        per_component: one prompt per connected part, not one for all.
    """

    kind: str = "box"
    points: int = 10
    box_jitter: float = 0.0
    per_component: bool = False

    def __post_init__(self) -> None:
        if self.kind not in PROMPTS:
            raise unknown_name("prompt", self.kind, PROMPTS)
        jitter: Range = (lambda v: 0 <= v < 0.5, "give a number in [0, 0.5)")
        check_ranges(self, points=at_least(1), box_jitter=jitter)

    @property
    def name(self) -> str:
        """What a protocol says of them."""
        what = "tight box" if self.kind == "box" else f"{self.points} points"
        return f"ORACLE: {what} of the true mask{', per component' if self.per_component else ''}"

    def of(self, mask: NDArray[np.bool_], path: Path) -> list[Any]:
        """The prompts of one picture; random draws come from a hash of its ``path`` below the set's root."""
        rng = np.random.default_rng(int(path_hash(path)[:16], 16))
        parts = components(mask) if self.per_component else [mask]
        if self.kind == "points":
            return [points_on(part, self.points, rng).tolist() for part in parts]
        size, share = (mask.shape[1], mask.shape[0]), self.box_jitter
        boxes = [tight_box(part) for part in parts]
        return [jittered(b, share, size, rng) for b in boxes] if share else list(boxes)


def evaluate_samples(
    predict: Callable[..., list[SegmentationResult]],
    data: SegmentationData,
    split: str,
    prompts: OraclePrompts,
    *,
    keep: bool,
    progress: bool,
) -> SegmentationEvaluation:
    """Score a segmenter on a split of ``data``.

    Args:
        predict: (pictures, ``boxes=`` or ``points=``) -> one result per picture.
        data: the set.
        split: ``test`` or ``train``.
        prompts: what every picture is prompted with.
        keep: keep the predictions.
        progress: show progress and the time left.

    Raises:
        DataError: no usable picture in that split.
        ConfigError: an unknown split.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    samples = data.test if split == "test" else data.train
    rows: list[dict[str, Any]] = []
    scored: list[MaskSample] = []
    results: list[SegmentationResult] = []
    errors: list[str] = []
    with Meter("evaluate", len(samples), enabled=progress) as meter:
        for start in range(0, len(samples), BATCH):
            meter.update(start)
            chosen, masks = _readable(samples[start : start + BATCH], errors)
            if not chosen:
                continue
            paths = [s.image.relative_to(data.root) for s in chosen]
            given = [prompts.of(mask, path) for mask, path in zip(masks, paths, strict=True)]
            predicted = predict([s.image for s in chosen], **{_ARGUMENT[prompts.kind]: given})
            rows += [_row(s, m, r) for s, m, r in zip(chosen, masks, predicted, strict=True)]
            scored += chosen
            results += predicted if keep else []
    if not rows:
        hint = "run `wildsight check segmentation`"
        raise DataError(f"no usable {split} picture", where=data.root, hint=hint)
    protocol = {**data.protocol, "prompt": prompts.name, "box_jitter": prompts.box_jitter, "scored": split}
    return SegmentationEvaluation(
        rows=mean_rows(rows, KEYS),
        errors=errors,
        protocol=protocol,
        scores=rows,
        samples=scored,
        results=results,
    )


_ARGUMENT = {"box": "boxes", "points": "points"}


def _readable(
    samples: Sequence[MaskSample], errors: list[str]
) -> tuple[list[MaskSample], list[NDArray[np.bool_]]]:
    chosen, masks = [], []
    for sample in samples:
        try:
            masks.append(checked_mask(sample))
            chosen.append(sample)
        except WildSightError as error:
            errors.append(str(error))
    return chosen, masks


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
