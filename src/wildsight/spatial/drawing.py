"""A box drawn on its picture, and the scene from above."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from PIL.Image import Image, Resampling

from wildsight.spatial.boxes import EDGES, NEAR, Array, Box

Place: TypeAlias = Callable[[float, float], tuple[float, float]]
TRUTH = (60, 200, 90)
PAPER, GRID, INK = (250, 250, 250), (214, 219, 225), (60, 66, 74)
SMALLEST = 320  # drawn pictures are enlarged to at least this width


def colour_of(number: int) -> tuple[int, int, int]:
    """Colours of found boxes, far apart."""
    r, g, b = colorsys.hsv_to_rgb((0.02 + number * 0.381966) % 1.0, 0.9, 1.0)
    return round(r * 255), round(g * 255), round(b * 255)


def segments(box: Box, intrinsics: Array) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The twelve edges in pixels, cut where they pass behind the camera."""
    corners, lines = box.corners(), []
    for i, j in EDGES:
        a, b = corners[i], corners[j]
        if a[2] < NEAR and b[2] < NEAR:
            continue
        if min(a[2], b[2]) < NEAR:
            share = (NEAR - a[2]) / (b[2] - a[2])
            crossing = a + share * (b - a)
            a, b = (crossing, b) if a[2] < NEAR else (a, crossing)
        ends = [intrinsics @ (p / p[2]) for p in (a, b)]
        lines.append(((float(ends[0][0]), float(ends[0][1])), (float(ends[1][0]), float(ends[1][1]))))
    return lines


def on_picture(
    image: Image,
    intrinsics: Array,
    found: Sequence[Box],
    truth: Sequence[Box] = (),
    highest: int | None = None,
) -> Image:
    """The picture with boxes; the true ones in green.

    Args:
        image: RGB.
        intrinsics: [3, 3] of ``image``, pixels.
        found: boxes before the camera, metres.
        truth: likewise.
        highest: a picture above this height is drawn at it.
    """
    scale: float = max(1, math.ceil(SMALLEST / image.width))
    if highest is not None and image.height > highest:
        scale = highest / image.height
    size = (round(image.width * scale), round(image.height * scale))
    shown = image.resize(size, Resampling.BILINEAR, reducing_gap=2.0 if scale < 1 else None)
    draw = ImageDraw.Draw(shown)
    enlarged = np.diag((scale, scale, 1.0)) @ intrinsics
    pairs = [(b, TRUTH) for b in truth] + [(b, colour_of(i)) for i, b in enumerate(found)]
    limit = 4 * max(shown.size)
    for box, colour in pairs:
        for a, b in segments(box, enlarged):
            if max(map(abs, (*a, *b))) < limit:
                draw.line((a, b), fill=colour, width=2)
        x, y = enlarged[:2] @ (box.centre / max(box.centre[2], NEAR))
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    return shown


def from_above(
    found: Sequence[Box], truth: Sequence[Box] = (), others: Sequence[Box] = (), side: int = SMALLEST
) -> Image:
    """Bird's-eye view: the camera at the bottom looks up; a stroke shows a box's front, rings metres.

    Args:
        found: boxes that were found, with whiskers of one standard deviation of depth.
        truth: true boxes, in green.
        others: labelled boxes that nobody asked for, in grey.
        side: of the picture, pixels.
    """
    shown = PILImage.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(shown)
    boxes = [*found, *truth, *others]
    far = max((float(np.abs(b.corners()[:, (0, 2)]).max()) for b in boxes), default=5.0) * 1.1
    scale, foot = (side - 24) / far, side - 12

    def at(x: float, z: float) -> tuple[float, float]:
        return side / 2 + x * scale, foot - z * scale

    step = 10 ** math.floor(math.log10(max(far, 1e-3)))
    step = step if far / step >= 3 else step / 2
    for ring in np.arange(step, 2 * far, step):
        r = ring * scale
        draw.ellipse((side / 2 - r, foot - r, side / 2 + r, foot + r), outline=GRID)
        draw.text((side / 2 + 2, foot - r - 10), f"{ring:g} m", fill=INK)
    draw.polygon((at(0, 0), (side / 2 - 6, side - 2), (side / 2 + 6, side - 2)), fill=INK)
    groups = [(b, (170, 176, 184)) for b in others] + [(b, TRUTH) for b in truth]
    for box, colour in [*groups, *((b, colour_of(i)) for i, b in enumerate(found))]:
        _outline(draw, box, colour, at)
    return shown


def _outline(draw: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int], place: Place) -> None:
    """A box's foot, its front and the spread of its depth."""
    corners = box.corners()
    foot = [place(float(corners[i, 0]), float(corners[i, 2])) for i in (3, 2, 6, 7)]
    draw.polygon(foot, outline=colour, width=2)
    x, z = float(box.centre[0]), float(box.centre[2])
    ahead = box.rotation[:, 0] * box.size[0] / 2
    draw.line((place(x, z), place(x + float(ahead[0]), z + float(ahead[2]))), fill=colour, width=2)
    if box.spread > 0 and z > 0:
        ends = [(x * s, z * s) for s in ((z - box.spread) / z, (z + box.spread) / z)]
        draw.line([place(*e) for e in ends], fill=colour, width=1)


def side_by_side(pictures: Sequence[Image], height: int = SMALLEST) -> Image:
    """Pictures in one row of one height."""
    scaled = [p.resize((max(1, round(p.width * height / p.height)), height)) for p in pictures]
    wide = PILImage.new("RGB", (sum(p.width + 4 for p in scaled) - 4, height), PAPER)
    left = 0
    for picture in scaled:
        wide.paste(picture, (left, 0))
        left += picture.width + 4
    return wide
