"""Segmentation metrics from one confusion matrix: mIoU with absent classes handled as stated, mAcc, F1."""

from __future__ import annotations

from typing import Literal

import numpy as np

from wildsight.datasets.multimodal import IGNORE
from wildsight.errors import ConfigError

Absent = Literal["zero", "ignore"]


class ConfusionMeter:
    """Counts of (true class, predicted class), int64: no count is lost however many pixels there are.

    Args:
        classes: number of classes K.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), np.int64)

    def update(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Count the pixels of one picture or batch.

        Args:
            predicted: class ids in [0, K).
            target: class ids, 255 ignored; the shape of ``predicted``.

        Raises:
            ConfigError: shapes that differ, or ids out of range.
        """
        if predicted.shape != target.shape:
            raise ConfigError(f"shapes {predicted.shape} and {target.shape}", hint="give maps of one size")
        classes = len(self.counts)
        valid = target != IGNORE
        true, found = target[valid].astype(np.int64), predicted[valid].astype(np.int64)
        if true.size and (min(true.min(), found.min()) < 0 or max(true.max(), found.max()) >= classes):
            raise ConfigError(f"an id is outside [0, {classes})", hint="use 255 for what does not count")
        flat = np.bincount(true * classes + found, minlength=classes * classes)
        self.counts += flat.reshape(classes, classes)

    def scores(self, absent: Absent = "ignore") -> dict[str, float]:
        """``miou``, ``macc``, ``mf1`` and pixel accuracy ``acc``, in [0, 1]; see `class_scores`."""
        per = class_scores(self.counts)
        total = int(self.counts.sum())
        correct = float(np.trace(self.counts)) / total if total else 0.0
        means = {name: mean_over_classes(values, absent) for name, values in per.items()}
        return {"miou": means["iou"], "macc": means["acc"], "mf1": means["f1"], "acc": correct}


def class_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Per class from a confusion matrix [K, K] (rows true): IoU, recall and F1, NaN where undefined.

    IoU and F1 are undefined for a class neither there nor predicted, recall for one that is not there.
    """
    hit, true, found = np.diag(counts).astype(float), counts.sum(1), counts.sum(0)
    return {
        "iou": _ratio(hit, true + found - hit),
        "acc": _ratio(hit, true),
        "f1": _ratio(2.0 * hit, true + found),
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def mean_over_classes(values: np.ndarray, absent: Absent) -> float:
    """Mean over classes; an undefined one counts 0 with ``zero`` (as DELIVER's code does) or not at all.

    >>> values = np.array([1.0, np.nan])
    >>> mean_over_classes(values, "zero"), mean_over_classes(values, "ignore")
    (0.5, 1.0)
    """
    if absent == "zero":
        return float(np.nan_to_num(values).mean())
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else 0.0
