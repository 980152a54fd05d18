"""Exact labels of a rendered scene: masks, 3D boxes, occlusion, saliency, all from the same description."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wildsight.world.render import Frame, trace
from wildsight.world.scene import Array, Camera, Scene, Thing
from wildsight.world.shapes3d import SOLIDS
from wildsight.world.sums import turned

_SIGNS = np.stack(np.meshgrid((-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5)), -1).reshape(-1, 3)


@dataclass(frozen=True)
class Box3D:
    """A box that stands upright in the world, in camera coordinates (x right, y down, z forward), metres.

    ``centre`` [3]; ``size`` [3]: length, height, width; ``yaw`` radians about the vertical that points
    down: the length runs along (cos yaw, 0, -sin yaw) for a level camera; ``pitch`` radians by which the
    camera looks down. What a turn leaves unchanged has the smallest yaw: 0 when round, within +-pi/4 when
    square.
    """

    centre: Array
    size: Array
    yaw: float
    name: str
    pitch: float = 0.0

    def corners(self) -> Array:
        """Corners [8, 3] in camera coordinates, metres."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        about: Array = np.array(((c, 0, s), (0, 1, 0), (-s, 0, c)))
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        down: Array = np.array(((1, 0, 0), (0, c, -s), (0, s, c)))
        level = turned(about, (_SIGNS * self.size).T)
        return turned(down, level).T + self.centre

    def project(self, intrinsics: Array) -> Array:
        """Pixel coordinates [8, 2] of the corners under intrinsics [3, 3]."""
        seen = turned(intrinsics, self.corners().T).T
        pixels: Array = seen[:, :2] / seen[:, 2:]
        return pixels


@dataclass(frozen=True)
class Label:
    """Labels of one thing.

    ``mask`` bool [H, W], visible pixels; ``box`` [4] (left, top, right, bottom) of the mask in pixels,
    zeros when it is empty; ``box3d`` its box in camera coordinates; ``occluded`` the share in [0, 1] of its
    in-picture pixels that others hide (1 when it has none).
    """

    thing: Thing
    mask: npt.NDArray[np.bool_]
    box: Array
    box3d: Box3D
    occluded: float


def label(scene: Scene, frame: Frame) -> list[Label]:
    """Labels of every thing of ``scene``, in its order, for the ``frame`` rendered from it."""
    return [_label(scene, frame, index) for index in range(len(scene.things))]


def saliency(scene: Scene, frame: Frame) -> npt.NDArray[np.bool_]:
    """Pixels [H, W] of the thing that catches the eye: the largest in the picture, a hot one counting
    double."""
    areas = [
        (frame.instance == i).sum() * (2 if t.material == "hot" else 1) for i, t in enumerate(scene.things)
    ]
    chosen: npt.NDArray[np.bool_] = frame.instance == (int(np.argmax(areas)) if areas else 0)
    return chosen


def bounds(mask: npt.NDArray[np.bool_]) -> Array:
    """(left, top, right, bottom) [4] of a mask [H, W] in pixels, the last two exclusive; zeros when empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4)
    return np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), float)


def box3d(thing: Thing, camera: Camera) -> Box3D:
    """The box of a thing as ``camera`` sees it."""
    length, width, height = thing.extent
    centre = camera.see(thing.centre[None])[0]
    return Box3D(centre, np.array((length, height, width)), _least(thing), thing.shape, camera.pitch)


def _least(thing: Thing) -> float:
    """The yaw about the down axis, reduced by what the shape's symmetry leaves unchanged."""
    turns = SOLIDS[thing.shape].symmetry
    if turns == 0:
        return 0.0
    whole = 2 * np.pi / turns
    return float(-thing.yaw - whole * np.round(-thing.yaw / whole))


def _label(scene: Scene, frame: Frame, index: int) -> Label:
    thing, mask = scene.things[index], frame.instance == index
    alone = trace(replace(scene, things=(thing,)), len(mask)).instance == 0
    hidden = 1.0 - mask.sum() / alone.sum() if alone.any() else 1.0
    return Label(thing, mask, bounds(mask), box3d(thing, scene.camera), float(hidden))
