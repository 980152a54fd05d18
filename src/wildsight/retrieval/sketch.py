"""One form for every sketch, in training and from a person's hand: black on white, tight, square."""

from __future__ import annotations

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image, Resampling

from wildsight.errors import ImageError

SIDE = 224
BORDER = 10
INK = 0.5


def normalise_sketch(picture: Image) -> Image:
    """Dark strokes on white, cropped to the ink and padded to a square of `SIDE` pixels.

    A drawing on a dark ground is inverted; grey drawings keep their grey.

    Args:
        picture: RGB, as `wildsight.images.load_image` gives it.

    Raises:
        ImageError: nothing is drawn.
    """
    grey = np.asarray(picture.convert("L"), np.float32) / 255.0
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(rim) < INK:
        grey = 1.0 - grey
    ink = grey < otsu(grey)
    if not ink.any() or grey.max() - grey.min() < 0.1:
        raise ImageError("no strokes", hint="draw something, in another colour than the ground")
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cropped = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(cropped.shape) + 2 * BORDER
    square = np.ones((side, side), np.float32)
    top, left = (side - cropped.shape[0]) // 2, (side - cropped.shape[1]) // 2
    square[top : top + cropped.shape[0], left : left + cropped.shape[1]] = cropped
    shown = PILImage.fromarray(np.rint(square * 255).astype(np.uint8))
    return shown.resize((SIDE, SIDE), Resampling.BOX if side > SIDE else Resampling.BILINEAR).convert("RGB")


def otsu(grey: np.ndarray) -> float:
    """Otsu's threshold of a picture in [0, 1]: the one with the largest variance between the two sides."""
    counts, edges = np.histogram(grey, bins=64, range=(0.0, 1.0))
    centre = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    total = (counts * centre).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = total / below - (total[-1] - total) / above
        between = np.nan_to_num(below * above * gap**2)
    return float(edges[int(between.argmax()) + 1])


def looks_like_photo(picture: Image) -> bool:
    """Whether a picture has colour, or too little plain ground, to be a line drawing."""
    pixels = np.asarray(picture.convert("RGB").resize((64, 64)), np.float32) / 255.0
    colour = (pixels.max(2) - pixels.min(2)).mean()
    grey = pixels.mean(2)
    ground = np.abs(grey - np.median(grey)) < 0.1
    return bool(colour > 0.08 or ground.mean() < 0.5)
