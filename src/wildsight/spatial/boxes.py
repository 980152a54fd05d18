"""A box in metres before a camera, and its ways to and from other conventions; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.errors import DataError

Array: TypeAlias = npt.NDArray[np.float64]
SIGNS = np.array(
    [(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1,
    1)], float
)  # fmt: skip
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
NEAR = 0.01  # metres before the camera at which edges are cut for drawing


def turned(yaw: float) -> Array:
    """The rotation [3, 3] by ``yaw`` radians about the axis that points down."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array(((c, 0.0, s), (0.0, 1.0, 0.0), (-s, 0.0, c)))


@dataclass(frozen=True, eq=False)
class Box:
    """A box in camera coordinates (x right, y down, z forward), metres.

    Attributes:
        centre: [3], of the solid.
        size: [3]: length, height, width: extents along the box's own x, y, z.
        rotation: [3, 3] from the box's frame to the camera's.
        name: what it is; may be empty.
        score: in [0, 1], that it is there.
        spread: standard deviation of its depth, metres; 0 for labels.
    """

    centre: Array
    size: Array
    rotation: Array = field(default_factory=lambda: np.eye(3))
    name: str = ""
    score: float = 1.0
    spread: float = 0.0

    @classmethod
    def upright(cls, centre: Sequence[float], size: Sequence[float], yaw: float, name: str = "") -> Box:
        """A box that stands on level ground before a level camera.

        Args:
            centre: of the solid, metres.
            size: length, height, width, metres.
            yaw: radians about the axis that points down.
            name: what it is.
        """
        return cls(np.asarray(centre, float), np.asarray(size, float), turned(float(yaw)), name)

    @classmethod
    def from_kitti(cls, hwl: Sequence[float], bottom: Sequence[float], ry: float, name: str = "") -> Box:
        """A box as KITTI writes it: height, width, length, and the centre of its bottom face."""
        height, width, length = hwl
        centre = (bottom[0], bottom[1] - height / 2, bottom[2])
        return cls.upright(centre, (length, height, width), ry, name)

    @classmethod
    def from_omni3d(cls, centre: Any, dimensions: Any, rotation: Any, name: str = "") -> Box:
        """A box as Omni3D writes it: dimensions are width, height, length."""
        width, height, length = (float(v) for v in dimensions)
        return cls(
            np.asarray(centre, float), np.array((length, height, width)), np.asarray(rotation, float), name
        )

    @property
    def yaw(self) -> float:
        """Radians about the axis that points down."""
        return float(np.arctan2(-self.rotation[2, 0], self.rotation[0, 0]))

    @property
    def volume(self) -> float:
        """Cubic metres."""
        return float(np.prod(self.size))

    def corners(self) -> Array:
        """[8, 3] in the order of `wildsight.spatial.geometry.corners`, metres."""
        corners: Array = (SIGNS / 2 * self.size) @ self.rotation.T + self.centre
        return corners

    def project(self, intrinsics: Array) -> Array:
        """Pixels [8, 2] of the corners under [3, 3]; a corner behind the camera is moved 0.01 m before it."""
        seen = self.corners()
        seen[:, 2] = np.maximum(seen[:, 2], NEAR)
        flat = seen @ intrinsics.T
        pixels: Array = flat[:, :2] / flat[:, 2:]
        return pixels

    def bounds(self, intrinsics: Array, width: float, height: float) -> Array:
        """(left, top, right, bottom) [4] of the projection, cut to the picture, pixels."""
        pixels = self.project(intrinsics).clip((0, 0), (width, height))
        return np.concatenate((pixels.min(0), pixels.max(0)))

    def fault(self) -> str | None:
        """What is wrong with it as a label, or None."""
        parts = (self.centre, self.size, self.rotation)
        if not all(np.isfinite(p).all() for p in parts):
            return "a box with numbers that are not finite"
        if (self.size <= 0).any():
            return f"a box of size {'x'.join(f'{v:g}' for v in self.size)} m"
        if self.centre[2] <= 0:
            return f"a box behind the camera (z = {self.centre[2]:g} m)"
        if (
            np.abs(self.rotation @ self.rotation.T - np.eye(3)).max() > 1e-3
            or np.linalg.det(self.rotation) < 0
        ):
            return "a box whose rotation is none"
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: name, score, centre, size, yaw, rotation, spread; metres and radians."""
        return {
            "name": self.name,
            "score": float(self.score),
            "centre": [float(v) for v in self.centre],
            "size": [float(v) for v in self.size],
            "yaw": self.yaw,
            "rotation": [[float(v) for v in row] for row in self.rotation],
            "spread": float(self.spread),
        }


def checked(box: Box, where: Any) -> Box:
    """The box itself.

    Raises:
        DataError: it is no label: not finite, without volume, behind the camera.
    """
    fault = box.fault()
    if fault:
        raise DataError(fault, where=where, hint="hint or remove the label")
    return box


def stacked(boxes: Sequence[Box]) -> tuple[Array, Array, Array]:
    """Centres [N, 3], sizes [N, 3] and rotations [N, 3, 3]."""
    if not boxes:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))
    return (
        np.stack([b.centre for b in boxes]),
        np.stack([b.size for b in boxes]),
        np.stack([b.rotation for b in boxes]),
    )
