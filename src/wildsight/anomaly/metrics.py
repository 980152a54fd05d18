"""Scores of anomaly detection: AUROC, AP, F1max and AUPRO, exact and with bounded memory.

All four are read off the same steps: the distinct scores that some positive has, highest first. Between two
of them only negatives pass the threshold, which moves no precision-recall optimum and adds flat pieces alone
to the curves. So one in-place sort of the negatives and one sort of the (few) positives give every figure.

Above `EXACT_PIXELS` pixels the scores are counted in 2^16 equal bins instead (`pixel_mode` says which).
Figures are never averaged over pooled categories: score each category, then `mean_over_categories`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wildsight.errors import ConfigError, DataError

EXACT_PIXELS = 200_000_000
BINS = 1 << 16
IMAGE_KEYS = ("image_auroc", "image_ap", "image_f1max")
PIXEL_KEYS = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
KEYS = IMAGE_KEYS + PIXEL_KEYS

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.float64]
Bools = NDArray[np.bool_]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Steps:
    """What lies at or above each threshold, thresholds descending, as K-vectors of float64.

    Attributes:
        hits: positives at or above the threshold.
        alarms: negatives at or above it.
        alarms_before: negatives strictly above it.
        coverage: mean share of each region at or above it, in [0, 1]; equal to recall without regions.
        negatives: the number of all negatives.
    """

    hits: Counts
    alarms: Counts
    alarms_before: Counts
    coverage: Counts
    negatives: int

    @property
    def positives(self) -> float:
        """The number of all positives."""
        return float(self.hits[-1])


def steps_of(positive: Floats, negative: Floats, weight: Floats | None = None) -> Steps:
    """The exact steps of two sets of scores; ties are one step.

    Args:
        positive: [P] scores of the positives, P >= 1.
        negative: [M] scores of the negatives, M >= 1; **sorted in place**.
        weight: [P] what each positive adds to the coverage, summing to 1; 1 / P when None.
    """
    negative.sort()
    order = np.argsort(positive)[::-1]
    ordered = positive[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits = (last + 1).astype(np.float64)
    coverage = hits / len(ordered) if weight is None else np.cumsum(weight[order], dtype=np.float64)[last]
    return Steps(
        hits=hits,
        alarms=(len(negative) - np.searchsorted(negative, ordered[last], "left")).astype(np.float64),
        alarms_before=(len(negative) - np.searchsorted(negative, ordered[last], "right")).astype(np.float64),
        coverage=coverage,
        negatives=len(negative),
    )


def auroc(steps: Steps) -> float:
    """Area under the ROC curve, ties counted half; never flipped when below 0.5."""
    gained = np.diff(steps.hits, prepend=0.0)
    passed = (steps.alarms + steps.alarms_before) / (2 * steps.negatives)
    return float(np.sum(gained * (1 - passed)) / steps.positives)


def average_precision(steps: Steps) -> float:
    """Step-wise average precision, ``sum_k (R_k - R_{k-1}) P_k``."""
    gained = np.diff(steps.hits, prepend=0.0)
    precision = steps.hits / np.maximum(steps.hits + steps.alarms, 1)
    return float(np.sum(gained * precision) / steps.positives)


def f1_max(steps: Steps) -> float:
    """The greatest ``2PR / (P + R)`` over all distinct thresholds."""
    return float(np.max(2 * steps.hits / (steps.positives + steps.hits + steps.alarms)))


def aupro(steps: Steps, fpr_limit: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate, divided by that rate.

    Trapezoids between distinct thresholds, linear interpolation at the limit. A perfect map gives 1, a
    constant map ``fpr_limit / 2``, an inverted one 0.

    Args:
        steps: steps whose coverage was weighted by region.
        fpr_limit: in (0, 1].

    Raises:
        ConfigError: a limit outside (0, 1].
    """
    if not 0 < fpr_limit <= 1:
        raise ConfigError(f"the AUPRO limit is {fpr_limit}", hint="give a rate in (0, 1]")
    knots = np.stack([steps.alarms_before, steps.alarms], axis=1).ravel() / steps.negatives
    before = np.append(0.0, steps.coverage[:-1])
    height = np.stack([before, steps.coverage], axis=1).ravel()
    x = np.concatenate([[0.0], knots, [1.0]])
    y = np.concatenate([[0.0], height, [steps.coverage[-1]]])
    inside = x <= fpr_limit
    edge = np.interp(fpr_limit, x, y)
    x, y = np.append(x[inside], fpr_limit), np.append(y[inside], edge)
    return float(np.clip(np.trapezoid(y, x) / fpr_limit, 0.0, 1.0))


def region_weights(mask: Bools) -> tuple[Floats, int]:
    """Share of its 8-connected region that each defect pixel is.

    Args:
        mask: [H, W] bool.

    Returns:
        ([P] ``1 / |region|`` for the P true pixels in row-major order, number of regions).
    """
    regions, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    inside = regions[mask]
    sizes = np.bincount(inside, minlength=count + 1)
    return 1 / sizes[inside], int(count)


def pixel_mode(pixels: int, exact_pixels: int = EXACT_PIXELS) -> Literal["exact", "histogram"]:
    """How pixel figures of a category with this many pixels are computed."""
    return "exact" if pixels <= exact_pixels else "histogram"


def pixel_steps(maps: Floats, masks: Bools, *, exact_pixels: int = EXACT_PIXELS) -> Steps | None:
    """The steps of all pixels of one category, coverage weighted by region.

    Memory beyond the arguments: one copy of the scores and one of the masks in exact mode, one map in
    histogram mode. A histogram's AUROC is off by at most half the sum over its bins of
    (share of the positives) x (share of the negatives).

    Args:
        maps: [N, H, W] finite scores, higher means more anomalous.
        masks: [N, H, W] bool, true on defects.
        exact_pixels: above this many pixels use 2^16 bins between the least and the greatest score.

    Returns:
        The steps, or None when one of the two classes of pixels is absent.
    """
    defects = int(np.count_nonzero(masks))
    if defects in (0, masks.size):
        return None
    if pixel_mode(masks.size, exact_pixels) == "histogram":
        return _histogram_steps(maps, masks)
    parts = [region_weights(mask) for mask in masks]
    weight = np.concatenate([part for part, _ in parts]) / sum(count for _, count in parts)
    return steps_of(maps[masks], maps[~masks], weight)


def _histogram_steps(maps: Floats, masks: Bools) -> Steps:
    positive, negative, weight = (np.zeros(BINS) for _ in range(3))
    regions = 0
    for bins, mask in zip(_binned(maps), masks, strict=True):
        share, count = region_weights(mask)
        inside = bins[mask]
        positive += np.bincount(inside, minlength=BINS)
        negative += np.bincount(bins[~mask], minlength=BINS)
        weight += np.bincount(inside, weights=share, minlength=BINS)
        regions += count
    alarms = np.cumsum(negative[::-1])
    return Steps(
        hits=np.cumsum(positive[::-1]),
        alarms=alarms,
        alarms_before=alarms - negative[::-1],
        coverage=np.cumsum(weight[::-1]) / regions,
        negatives=int(alarms[-1]),
    )


def _binned(maps: Floats) -> Iterator[NDArray[np.int64]]:
    low, high = float(maps.min()), float(maps.max())
    scale = BINS / (high - low) if high > low else 0.0
    for scores in maps:
        yield np.minimum((scores.astype(np.float64) - low) * scale, BINS - 1).astype(np.int64)


def score_category(
    image_scores: Floats,
    labels: NDArray[Any],
    maps: Floats | None = None,
    masks: Bools | None = None,
    *,
    fpr_limit: float = 0.3,
    exact_pixels: int = EXACT_PIXELS,
) -> Scores:
    """Every figure of one category.

    Args:
        image_scores: [N] finite scores, higher means more anomalous.
        labels: [N], 0 good, 1 defect, from the data set's folders or list.
        maps: [N, H, W] finite float32 scores, or None when there are no maps.
        masks: [N, H, W] bool, or None when there are no masks.
        fpr_limit: end of the AUPRO integral, in (0, 1].
        exact_pixels: see `pixel_steps`.

    Returns:
        The keys of `KEYS`, each in [0, 1], or None where undefined (one class alone, no masks).

    Raises:
        DataError: shapes that do not fit, or scores that are not finite.
    """
    truth = np.asarray(labels).astype(bool)
    values = np.array(image_scores, dtype=np.float64)
    _check(values, truth, "image scores")
    scores: Scores = dict.fromkeys(KEYS)
    if truth.any() and not truth.all():
        scores |= _figures(steps_of(values[truth], values[~truth]), "image")
    if maps is None or masks is None:
        return scores
    _check(maps, masks, "anomaly maps")
    steps = pixel_steps(maps, masks.astype(bool, copy=False), exact_pixels=exact_pixels)
    if steps is not None:
        scores |= _figures(steps, "pixel") | {"aupro": aupro(steps, fpr_limit)}
    return scores


def _figures(steps: Steps, kind: str) -> Scores:
    return {
        f"{kind}_auroc": auroc(steps),
        f"{kind}_ap": average_precision(steps),
        f"{kind}_f1max": f1_max(steps),
    }


def _check(values: Floats, truth: NDArray[Any], what: str) -> None:
    if values.shape != truth.shape:
        raise DataError(
            f"{what} have shape {values.shape}, their truth {truth.shape}", hint="give one score per label"
        )
    if not all(np.isfinite(part).all() for part in values):
        raise DataError(f"{what} hold NaN or infinity", hint="check the model's output")


def mean_over_categories(categories: Mapping[str, Mapping[str, float | None]]) -> Scores:
    """Unweighted mean of each figure over the categories that define it; None where none does.

    >>> mean_over_categories({"nut": {"aupro": 0.5}, "tile": {"aupro": 1.0}, "pcb": {"aupro": None}})
    {'aupro': 0.75}
    """
    keys = dict.fromkeys(key for scores in categories.values() for key in scores)
    means: Scores = {}
    for key in keys:
        known = [value for scores in categories.values() if (value := scores.get(key)) is not None]
        means[key] = sum(known) / len(known) if known else None
    return means
