"""Scores of good pictures by fits without them, so that a threshold can rest on all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wildsight.training.progress import Meter

FOLDS = 5
"""Fits without a fifth of the pictures, where nothing else is asked for."""


def out_of_fold(
    learn: np.ndarray,
    folds: int,
    seed: int,
    fit_and_score: Callable[[int, np.ndarray, np.ndarray], np.ndarray],
    progress: bool = False,
) -> np.ndarray:
    """Score each of ``learn`` by a fit on the other folds.

    Args:
        learn: indices of pictures, [N].
        folds: parts of about equal size; fewer than two score nothing.
        seed: of the parts.
        fit_and_score: takes the fold's number, the indices to fit on and the indices to score.
        progress: show progress and the time left.

    Returns:
        [N], NaN where nothing was scored.
    """
    scores = np.full(len(learn), np.nan)
    folds = min(folds, len(learn))
    if folds < 2:
        return scores
    part = np.random.default_rng(seed).permutation(len(learn)) % folds
    with Meter("folds of the threshold", folds, enabled=progress) as meter:
        for fold in range(folds):
            scores[part == fold] = fit_and_score(fold, learn[part != fold], learn[part == fold])
            meter.add(1)
    return scores
