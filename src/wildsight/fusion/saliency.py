"""Saliency metrics: MAE, F-measure (max, mean, adaptive, weighted), S-measure, E-measure.

Definitions of the field's papers, as the maintained library PySODMetrics counts them: predictions are 8-bit
maps stretched to [0, 1] per picture, and max and mean are taken over the curve averaged over pictures.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve, distance_transform_edt

BETA2 = 0.3
ALPHA = 0.5
TINY = np.finfo(np.float64).eps


def prepared(pred: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prediction [H, W] uint8 to [0, 1] stretched to its range, and mask [H, W] uint8 to bool (above 128)."""
    p = pred.astype(np.float64) / 255.0
    if p.max() != p.min():
        p = (p - p.min()) / (p.max() - p.min())
    return p, mask > 128


def mean_absolute_error(p: np.ndarray, g: np.ndarray) -> float:
    """``mean |p - g|``."""
    return float(np.abs(p - g).mean())


def adaptive_threshold(p: np.ndarray) -> float:
    """Twice the mean, at most 1."""
    return min(2.0 * float(p.mean()), 1.0)


def _counts(p: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At each threshold 255, 254 .. 0: salient pixels found, and background pixels taken for salient."""
    levels = (p * 255).astype(np.uint8)
    hits = np.bincount(levels[g], minlength=256)[::-1].cumsum()
    false = np.bincount(levels[~g], minlength=256)[::-1].cumsum()
    return hits, false


def f_curve(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """F with beta^2 = 0.3 at the thresholds 255 .. 0, [256]."""
    hits, false = _counts(p, g)
    precision = hits / np.maximum(hits + false, 1)
    recall = hits / max(int(g.sum()), 1)
    below = BETA2 * precision + recall
    return np.divide((1 + BETA2) * precision * recall, below, out=np.zeros(256), where=below > 0)


def adaptive_f(p: np.ndarray, g: np.ndarray) -> float:
    """F at the adaptive threshold."""
    found = p >= adaptive_threshold(p)
    hit = float((found & g).sum())
    if hit == 0:
        return 0.0
    precision, recall = hit / found.sum(), hit / g.sum()
    return float((1 + BETA2) * precision * recall / (BETA2 * precision + recall))


def weighted_f(p: np.ndarray, g: np.ndarray) -> float:
    """F of errors weighted by where they are (beta^2 = 1)."""
    if not g.any():
        return 0.0
    distance, nearest = distance_transform_edt(~g, return_indices=True)
    error = np.abs(p - g)
    moved = error.copy()
    moved[~g] = error[nearest[0][~g], nearest[1][~g]]
    smooth = convolve(moved, _gaussian(), mode="constant", cval=0.0)
    least = np.where(g & (smooth < error), smooth, error)
    importance = np.where(g, 1.0, 2.0 - np.exp(np.log(0.5) / 5.0 * distance))
    weighed = least * importance
    true = g.sum() - weighed[g].sum()
    false = weighed[~g].sum()
    recall, precision = 1.0 - weighed[g].mean(), true / (true + false + TINY)
    return float(2.0 * recall * precision / (recall + precision + TINY))


def _gaussian(side: int = 7, sigma: float = 5.0) -> np.ndarray:
    axis = np.arange(side) - side // 2
    kernel = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def s_measure(p: np.ndarray, g: np.ndarray) -> float:
    """Structure: half of objects, half of four regions around the mask's centroid."""
    share = float(g.mean())
    if share == 0:
        return 1.0 - float(p.mean())
    if share == 1:
        return float(p.mean())
    objects = share * _object(p[g]) + (1 - share) * _object(1.0 - p[~g])
    return max(0.0, ALPHA * objects + (1 - ALPHA) * _regions(p, g))


def _object(values: np.ndarray) -> float:
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2.0 * mean / (mean**2 + 1.0 + deviation + TINY)


def _regions(p: np.ndarray, g: np.ndarray) -> float:
    height, width = g.shape
    y, x = (int(v) + 1 for v in np.argwhere(g).mean(0).round())
    total = 0.0
    for rows, columns in (
        (slice(0, y), slice(0, x)),
        (slice(0, y), slice(x, width)),
        (slice(y, height), slice(0, x)),
        (slice(y, height), slice(x, width)),
    ):
        part, truth = p[rows, columns], g[rows, columns]
        if part.size:
            total += part.size / g.size * _ssim(part, truth.astype(np.float64))
    return total


def _ssim(p: np.ndarray, g: np.ndarray) -> float:
    mp, mg, less = p.mean(), g.mean(), max(p.size - 1, 1)
    vp, vg = ((p - mp) ** 2).sum() / less, ((g - mg) ** 2).sum() / less
    cov = ((p - mp) * (g - mg)).sum() / less
    above, below = 4 * mp * mg * cov, (mp**2 + mg**2) * (vp + vg)
    if above != 0:
        return float(above / (below + TINY))
    return 1.0 if below == 0 else 0.0


def _alignment(hits: np.ndarray, false: np.ndarray, salient: int, size: int) -> np.ndarray:
    """Enhanced alignment of binary maps given by their counts."""
    found = hits + false
    if salient == 0:
        total = size - found
    elif salient == size:
        total = found
    else:
        dp, dg = found / size, salient / size
        total = np.zeros(len(hits))
        cells = (
            (hits, 1 - dp, 1 - dg),
            (false, 1 - dp, -dg),
            (salient - hits, -dp, 1 - dg),
            (size - salient - false, -dp, -dg),
        )
        for count, a, b in cells:
            align = 2 * a * b / (a**2 + b**2 + TINY)
            total = total + count * (align + 1) ** 2 / 4
    return total / (size - 1 + TINY)


def e_curve(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """E at the thresholds 255 .. 0, [256]; may pass 1 by one part in the number of pixels."""
    hits, false = _counts(p, g)
    return _alignment(hits.astype(float), false.astype(float), int(g.sum()), g.size)


def adaptive_e(p: np.ndarray, g: np.ndarray) -> float:
    """E at the adaptive threshold."""
    found = p >= adaptive_threshold(p)
    hits, false = np.array([(found & g).sum()], float), np.array([(found & ~g).sum()], float)
    return float(_alignment(hits, false, int(g.sum()), g.size)[0])


class SaliencyMeter:
    """Averages over pictures; `scores` gives ``s, wf, maxf, meanf, adpf, maxe, meane, adpe, mae``."""

    def __init__(self) -> None:
        self.single: list[tuple[float, ...]] = []
        self.curves: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, pred: np.ndarray, mask: np.ndarray) -> None:
        """One picture: prediction and mask, [H, W] uint8."""
        p, g = prepared(pred, mask)
        self.single.append(
            (s_measure(p, g), weighted_f(p, g), adaptive_f(p, g), adaptive_e(p, g), mean_absolute_error(p, g))
        )
        self.curves.append((f_curve(p, g), e_curve(p, g)))

    def scores(self) -> dict[str, float]:
        """The means; empty before the first picture."""
        if not self.single:
            return {}
        s, wf, adpf, adpe, mae = (float(v) for v in np.mean(self.single, axis=0))
        f, e = (np.mean([c[i] for c in self.curves], axis=0) for i in (0, 1))
        top = {"maxf": float(f.max()), "meanf": float(f.mean())}
        top |= {"maxe": float(e.max()), "meane": float(e.mean())}
        return {"s": s, "wf": wf, **top, "adpf": adpf, "adpe": adpe, "mae": mae}
