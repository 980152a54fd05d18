"""The geometry of boxes before a camera, as batched functions of tensors.

Camera frame: x right, y down, z forward, metres, the origin at the optical centre. Pixels: u right, v down,
(0, 0) the outer corner of the top-left pixel, so that a picture resized by s has s fx, s fy, s cx, s
cy. A box is its centre, its size (length, height, width: its extents along its own x, y, z) and the
rotation from its frame to the camera's. An intrinsics row is (fx, fy, cx, cy), pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

F_VIRTUAL = 512.0  # focal length of the virtual camera, pixels
NEAR = 1e-6
_SIGNS = (
    (-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1),
)  # fmt: skip


def project(points: Tensor, camera: Tensor) -> Tensor:
    """Pixels [..., 2] of points [..., 3] under intrinsics rows [..., 4]; z below 1e-6 m counts as 1e-6 m."""
    flat = points[..., :2] / points[..., 2:].clamp_min(NEAR)
    return flat * camera[..., :2] + camera[..., 2:]


def unproject(pixels: Tensor, depth: Tensor, camera: Tensor) -> Tensor:
    """Points [..., 3] at pixels [..., 2] and depths [...] along the optical axis."""
    flat = (pixels - camera[..., 2:]) / camera[..., :2]
    return torch.cat((flat * depth[..., None], depth[..., None]), -1)


def rays(pixels: Tensor, camera: Tensor) -> Tensor:
    """Viewing directions (x/z, y/z, 1) [..., 3] of pixels [..., 2]."""
    return unproject(pixels, torch.ones_like(pixels[..., 0]), camera)


def corners(centre: Tensor, size: Tensor, rotation: Tensor) -> Tensor:
    """Corners [..., 8, 3] of boxes: centre [..., 3], size [..., 3], rotation [..., 3, 3].

    Order: (-,-,-), (+,-,-), (+,+,-), (-,+,-) along the box's x, y, z, then the same with +z.
    """
    signs = torch.tensor(_SIGNS, dtype=size.dtype, device=size.device) / 2
    return (signs * size[..., None, :]) @ rotation.transpose(-1, -2) + centre[..., None, :]


def rotation_from_6d(six: Tensor) -> Tensor:
    """The rotations [..., 3, 3] that [..., 6] stand for, by Gram-Schmidt; never NaN."""
    first = F.normalize(six[..., :3], dim=-1, eps=1e-8)
    other = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = F.normalize(other, dim=-1, eps=1e-8)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -2)


def view_rotation(direction: Tensor) -> Tensor:
    """The smallest rotations [..., 3, 3] that take +z to directions [..., 3] with z > 0."""
    ray = F.normalize(direction, dim=-1)
    x, y, z = ray.unbind(-1)
    k = 1 / (1 + z)
    entries = (1 - x * x * k, -x * y * k, x, -x * y * k, 1 - y * y * k, y, -x, -y, z)
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def to_allocentric(rotation: Tensor, direction: Tensor) -> Tensor:
    """Rotations as they look along their viewing directions [..., 3]: M_view^T R."""
    return view_rotation(direction).transpose(-1, -2) @ rotation


def to_egocentric(rotation: Tensor, direction: Tensor) -> Tensor:
    """The inverse of `to_allocentric`: M_view R."""
    return view_rotation(direction) @ rotation


def virtual_depth(depth: Tensor, focal: Tensor, virtual: float = F_VIRTUAL) -> Tensor:
    """z_v = z f_v / f: the depth at which a camera of focal length f_v would see the same picture.

    Args:
        depth: metres.
        focal: fy of the picture that the network sees, pixels.
        virtual: f_v, pixels.
    """
    return depth * virtual / focal


def real_depth(depth: Tensor, focal: Tensor, virtual: float = F_VIRTUAL) -> Tensor:
    """The inverse of `virtual_depth`."""
    return depth * focal / virtual


def fused_depth(first: Tensor, spread: Tensor, second: Tensor, other: Tensor) -> Tensor:
    """Two depths weighted by the inverses of their variances (``spread`` and ``other`` squared)."""
    a, b = spread.square().reciprocal(), other.square().reciprocal()
    return (first * a + second * b) / (a + b)


def bounds(points: Tensor) -> Tensor:
    """(left, top, right, bottom) [..., 4] of pixels [..., P, 2]."""
    return torch.cat((points.amin(-2), points.amax(-2)), -1)


def mirrored(centre: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """A box in the picture flipped left to right: x negated, the rotation mirrored and made proper again.

    The box's own z is negated, which leaves its corners as a set alone.
    """
    flip = torch.tensor((-1.0, 1.0, 1.0), dtype=centre.dtype, device=centre.device)
    turn = torch.tensor((1.0, 1.0, -1.0), dtype=centre.dtype, device=centre.device)
    return centre * flip, flip[:, None] * rotation * turn
