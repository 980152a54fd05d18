"""Exact labels of a rendered scene: masks, 3D boxes, occlusion, all from the same description."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wildsight.world.render import Frame, render
from wildsight.world.scene import Array, Scene, Thing


@dataclass(frozen=True)
class Label:
    """Labels of one thing.

    ``mask`` bool [H, W], visible pixels; ``centre`` [3], metres in camera coordinates (x right,
    y down, z forward); ``size`` [3], metres along the thing's own axes; ``yaw`` radians about the
    world's vertical; ``occluded`` the share in [0, 1] of its in-picture pixels hidden by others
    (1 when it has none).
    """

    thing: Thing
    mask: npt.NDArray[np.bool_]
    centre: Array
    size: Array
    yaw: float
    occluded: float


def label(scene: Scene, frame: Frame) -> list[Label]:
    """Labels of every thing of ``scene``, in its order, for the ``frame`` rendered from it."""
    return [_label(scene, frame, index) for index in range(len(scene.things))]


def _label(scene: Scene, frame: Frame, index: int) -> Label:
    thing, camera = scene.things[index], scene.camera
    mask = frame.instance == index
    alone = render(replace(scene, things=(thing,)), len(mask)).instance == 0
    hidden = 1.0 - mask.sum() / alone.sum() if alone.any() else 1.0
    centre = camera.turn @ (thing.centre - np.array((0, 0, camera.height)))
    return Label(thing, mask, centre, thing.extent, thing.yaw, float(hidden))
