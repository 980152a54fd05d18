"""Losses of the two tasks: hard-example cross-entropy, and the saliency losses.

Formulas as in the training recipes of CMNeXt (OHEM) and of the PWRF release (structure, soft IoU, edges). The
edge weighting that the release intends is applied here: its legacy argument averages before weighting.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wildsight.datasets.multimodal import IGNORE

HARD = -math.log(0.7)


def ohem_cross_entropy(logits: Tensor, target: Tensor, hard: float = HARD) -> Tensor:
    """Mean cross-entropy of the pixels whose loss is above ``hard``, of at least a sixteenth of them.

    Args:
        logits: [B, K, H, W].
        target: [B, H, W] class ids, 255 ignored.
        hard: -ln 0.7 by default.
    """
    losses = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    valid = losses[target != IGNORE]
    if valid.numel() == 0:
        return logits.sum() * 0.0
    kept = valid[valid > hard]
    least = max(1, valid.numel() // 16)
    return kept.mean() if kept.numel() >= least else valid.topk(least).values.mean()


def structure_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """BCE and IoU, pixels weighted by ``1 + 5 |mean_31(mask) - mask|``; [B, 1, H, W] each."""
    weight = 1.0 + 5.0 * (F.avg_pool2d(mask, 31, stride=1, padding=15) - mask).abs()
    bce = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    bce = (weight * bce).sum((2, 3)) / weight.sum((2, 3))
    p = logits.sigmoid()
    inter, union = (p * mask * weight).sum((2, 3)), ((p + mask) * weight).sum((2, 3))
    return (bce + 1.0 - (inter + 1.0) / (union - inter + 1.0)).mean()


def soft_iou_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """``1 - (inter + 1) / (union - inter + 1)`` on sigmoids, mean over pictures."""
    p = logits.sigmoid()
    inter, union = (p * mask).sum((1, 2, 3)), (p + mask).sum((1, 2, 3))
    return (1.0 - (inter + 1.0) / (union - inter + 1.0)).mean()


def saliency_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """BCE + structure + 0.8 soft IoU."""
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    return bce + structure_loss(logits, mask) + 0.8 * soft_iou_loss(logits, mask)


def edges(mask: Tensor) -> Tensor:
    """Pixels of a binary mask [B, 1, H, W] whose 3 x 3 neighbourhood holds both values."""
    wide = F.max_pool2d(mask, 3, stride=1, padding=1)
    narrow = -F.max_pool2d(-mask, 3, stride=1, padding=1)
    return (wide != narrow).to(mask.dtype)


def deep_saliency_loss(sides: list[Tensor], final: Tensor, edge: Tensor | None, mask: Tensor) -> Tensor:
    """The release's weighted sum: the first side 1, the other sides 2, the final map 4, edges 1."""
    weights = [1.0] + [2.0] * (len(sides) - 1)
    total = 4.0 * saliency_loss(final, mask)
    for weight, side in zip(weights, sides, strict=True):
        total = total + weight * saliency_loss(side, mask)
    if edge is not None:
        total = total + F.binary_cross_entropy_with_logits(edge, edges(mask))
    return total


def kept_modalities(noise: Tensor, rate: float) -> Tensor:
    """Which modalities of a training picture stay: [B, M] bool from standard normal noise [B, M].

    Each is dropped with probability ``rate``; where all would be, the one with the largest noise stays.
    """
    limit = math.sqrt(2.0) * float(torch.erfinv(torch.tensor(2.0 * rate - 1.0))) if rate > 0 else -math.inf
    kept = noise > limit
    best = F.one_hot(noise.argmax(1), noise.shape[1]).bool()
    return kept | (best & ~kept.any(1, keepdim=True))
