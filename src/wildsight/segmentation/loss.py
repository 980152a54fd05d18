"""The mask loss: cross-entropy and Dice on sampled points, more of them where the mask is unsure.

As HQ-SAM and SPT's code: of 3 N_p uniform points keep the 75 % of N_p with the smallest ``|logit|``, add 25 %
fresh uniform ones; bilinear samples of logits and truth; ``BCE + Dice``, +1 above and below in Dice.

Difference: samples in the outer half pixel read the nearest pixel, not a mixture with zero, which would
count every border as unsure.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample

POINTS = 112 * 112
OVERSAMPLE = 3
UNSURE_SHARE = 0.75


def sample_at(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values [B, n] of maps [B, h, w] at points [B, n, 2], (x, y) in [0, 1]."""
    grid = (2.0 * points - 1.0)[:, None]
    return grid_sample(
        maps[:, None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0, 0]


def draw_points(logits: Tensor, count: int, generators: Sequence[Generator]) -> Tensor:
    """[B, count, 2] points, drawn per mask.

    Args:
        logits: [B, h, w]; no gradient flows through the choice.
        count: N_p.
        generators: one per mask, on the CPU.
    """
    unsure = int(UNSURE_SHARE * count)
    many = torch.stack([torch.rand(OVERSAMPLE * count, 2, generator=g) for g in generators])
    fresh = torch.stack([torch.rand(count - unsure, 2, generator=g) for g in generators])
    many, fresh = many.to(logits.device), fresh.to(logits.device)
    sureness = sample_at(logits.detach(), many).abs()
    chosen = sureness.topk(unsure, dim=1, largest=False).indices
    return torch.cat([many.gather(1, chosen[..., None].expand(-1, -1, 2)), fresh], dim=1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """``1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`` per row, then the mean.

    Args:
        logits: [B, n].
        truth: [B, n] in [0, 1].

    >>> float(dice_loss(torch.full((1, 4), 100.0), torch.ones(1, 4)))
    0.0
    """
    chance = logits.sigmoid()
    shared = 2.0 * (chance * truth).sum(1) + 1.0
    return (1.0 - shared / (chance.sum(1) + truth.sum(1) + 1.0)).mean()


def mask_loss(logits: Tensor, truth: Tensor, generators: Sequence[Generator], count: int = POINTS) -> Tensor:
    """BCE + Dice on drawn points, mean over masks.

    Args:
        logits: [B, h, w].
        truth: [B, H, W] of 0 and 1, any size of the same frame.
        generators: one per mask.
        count: points per mask.
    """
    points = draw_points(logits.float(), count, generators)
    guess, wanted = sample_at(logits, points), sample_at(truth, points)
    return binary_cross_entropy_with_logits(guess, wanted) + dice_loss(guess, wanted)
