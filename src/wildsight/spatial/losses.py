"""Losses on boxes: corners of boxes that differ from the truth in one part at a time, and the 2D box.

    L = w_text L_text + w_3d (L_xy + L_z + L_dim + L_rot + 0.5 L_joint) + w_2d (5 L1 + 2 GIoU) + w_d L_depth
        + w_there BCE

Each L_part is the mean L1 distance in metres between the corners of the true box and those of the true
box with that part replaced by its prediction; L_rot is a Chamfer distance, so that what looks the same
counts the same. L_z is the error of the depth alone, weighed by the predicted spread sigma:
sqrt(2) |z' - z| / sigma + log sigma, least at the standard deviation of Laplace errors, in metres.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.spatial import geometry
from wildsight.spatial.enhancer import lid_bin
from wildsight.spatial.heads import Boxes3D, Readout

RIM = 1e-4


def corner_l1(one: Tensor, two: Tensor) -> Tensor:
    """Mean L1 distance [...] of corners [..., 8, 3], paired."""
    return (one - two).abs().mean((-2, -1))


def chamfer(one: Tensor, two: Tensor) -> Tensor:
    """Chamfer distance [...] of corner sets [..., 8, 3]: the mean L1 distance to the nearest, both ways."""
    gaps = (one[..., :, None, :] - two[..., None, :, :]).abs().mean(-1)
    return (gaps.amin(-1).mean(-1) + gaps.amin(-2).mean(-1)) / 2


def disentangled(
    found: Boxes3D, centre: Tensor, size: Tensor, rotation: Tensor, camera: Tensor
) -> dict[str, Tensor]:
    """The corner losses [B, Q] of each part: ``xy``, ``z``, ``size``, ``rotation``, ``joint``; metres.

    Args:
        found: predicted boxes.
        centre, size, rotation: of the true boxes, [B, Q, 3], [B, Q, 3], [B, Q, 3, 3].
        camera: intrinsics rows [B, 4].
    """
    truth = geometry.corners(centre, size, rotation)
    row = camera[:, None]
    pixels, depth = geometry.project(centre, row), centre[..., 2]
    moved = geometry.unproject(geometry.project(found.centre, row), depth, row)
    deeper = geometry.unproject(pixels, found.centre[..., 2], row)
    return {
        "xy": corner_l1(geometry.corners(moved, size, rotation), truth),
        "z": corner_l1(geometry.corners(deeper, size, rotation), truth),
        "size": corner_l1(geometry.corners(centre, found.size, rotation), truth),
        "rotation": chamfer(geometry.corners(centre, size, found.rotation), truth),
        "joint": chamfer(geometry.corners(found.centre, found.size, found.rotation), truth),
    }


def weighed_by_spread(error: Tensor, spread: Tensor) -> Tensor:
    """sqrt(2) error / sigma + log sigma."""
    return math.sqrt(2.0) * error / spread + spread.log()


def sides_of(box: Tensor) -> Tensor:
    """(centre x, centre y, width, height) [..., 4] as (left, top, right, bottom)."""
    half = box[..., 2:] / 2
    return torch.cat((box[..., :2] - half, box[..., :2] + half), -1)


def giou_2d(one: Tensor, two: Tensor) -> Tensor:
    """Generalised IoU [...] of boxes [..., 4] as (left, top, right, bottom)."""
    low, high = torch.maximum(one[..., :2], two[..., :2]), torch.minimum(one[..., 2:], two[..., 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp_min(0).prod(-1) for b in (one, two)]
    union = (areas[0] + areas[1] - shared).clamp_min(1e-9)
    hull = torch.maximum(one[..., 2:], two[..., 2:]) - torch.minimum(one[..., :2], two[..., :2])
    whole = hull.clamp_min(0).prod(-1).clamp_min(1e-9)
    return shared / union - (whole - union) / whole


def box_2d_loss(found: Tensor, truth: Tensor) -> Tensor:
    """5 L1 + 2 (1 - GIoU) [...] of boxes (centre x, centre y, width, height) [..., 4] in picture sides."""
    l1 = (found - truth).abs().mean(-1)
    return 5 * l1 + 2 * (1 - giou_2d(sides_of(found), sides_of(truth)))


def mean_over(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``values`` [...] where ``weight`` is 1; 0 where it is 0 everywhere."""
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


def depth_map_loss(logits: Tensor, depth: Tensor, truth: Tensor, edges: Tensor) -> Tensor:
    """Cross-entropy over the bins plus L1 of log depth, where ``truth`` [B, h, w] is above 0.

    Args:
        logits: [B, K, h, w].
        depth: [B, h, w] soft-argmax, metres in the virtual camera.
        truth: likewise.
        edges: [K + 1] of the bins.
    """
    known = (truth > 0).float()
    bins = F.cross_entropy(logits, lid_bin(truth.clamp_min(RIM), edges), reduction="none")
    gap = (depth.clamp_min(RIM).log() - truth.clamp_min(RIM).log()).abs()
    return mean_over(bins + gap, known)


def box_losses(
    readout: Readout,
    found: Boxes3D,
    centre: Tensor,
    size: Tensor,
    rotation: Tensor,
    box2d: Tensor,
    valid: Tensor,
    camera: Tensor,
) -> dict[str, Tensor]:
    """All losses of the heads, means over the true boxes (``valid`` [B, Q] is 1).

    Rows without a box train ``there`` alone.
    """
    parts = disentangled(found, centre, size, rotation, camera)
    parts["z"] = weighed_by_spread((found.centre[..., 2] - centre[..., 2]).abs(), found.spread)
    losses = {name: mean_over(value, valid) for name, value in parts.items()}
    losses["box2d"] = mean_over(box_2d_loss(readout.box2d, box2d), valid)
    losses["there"] = F.binary_cross_entropy_with_logits(readout.there, valid)
    return losses
