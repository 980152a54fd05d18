"""Inverses of the geometry of boxes, for tests that build what the product takes apart."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_of(matrices: Tensor) -> Tensor:
    """Intrinsics rows [..., 4] of matrices [..., 3, 3]."""
    fx, fy = matrices[..., 0, 0], matrices[..., 1, 1]
    return torch.stack((fx, fy, matrices[..., 0, 2], matrices[..., 1, 2]), -1)


def yaw_rotation(yaw: Tensor) -> Tensor:
    """Rotations [..., 3, 3] by ``yaw`` [...] radians about the axis that points down (KITTI's ry)."""
    c, s = yaw.cos(), yaw.sin()
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack((c, zero, s, zero, one, zero, -s, zero, c), -1).unflatten(-1, (3, 3))


def rotation_6d(rotation: Tensor) -> Tensor:
    """The first two rows of rotations [..., 3, 3] as [..., 6]."""
    return rotation[..., :2, :].flatten(-2)
