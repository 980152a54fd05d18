"""Masks and contributions as pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from PIL.Image import Image, Resampling

from wildsight.datasets.multimodal import IGNORE

SIDE = 192
"""Height of what is drawn here, pixels."""
SCALE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Colours of the least to the greatest contribution."""
FLAT = 0.01
"""A smaller range of contributions is drawn as this one: what differs less is noise."""


def coloured(labels: np.ndarray, count: int) -> Image:
    """Class ids as colours: 0 black, the others evenly around the hue circle, 255 grey."""
    table = np.full((256, 3), 128, np.uint8)
    table[0] = 0
    for i in range(1, count):
        hue = (i * 0.381966) % 1.0
        table[i] = np.rint(np.array(colorsys.hsv_to_rgb(hue, 0.75, 1.0)) * 255).astype(np.uint8)
    return PILImage.fromarray(table[np.clip(labels, 0, IGNORE)])


def legend(labels: np.ndarray, classes: Sequence[str]) -> Image:
    """Class ids in colours, with the colours and names of those that occur on their right."""
    there = np.unique(labels).tolist()
    font, step = ImageFont.load_default(13), 18
    colours = coloured(np.array([there]), len(classes)).convert("RGB")
    width = max(round(font.getlength(classes[c])) for c in there) + 28
    mask = coloured(labels, len(classes))
    wide = max(1, round(mask.width * SIDE / mask.height))
    sheet = PILImage.new("RGB", (wide + width, max(SIDE, step * len(there) + 4)), "white")
    sheet.paste(mask.resize((wide, SIDE), Resampling.NEAREST), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for row, number in enumerate(there):
        top = 2 + step * row
        draw.rectangle((wide + 6, top + 2, wide + 18, top + 14), colours.getpixel((row, 0)), "black")
        draw.text((wide + 24, top), classes[number], "black", font)
    return sheet


def spectrum(heat: np.ndarray, shape: tuple[int, int]) -> Image:
    """Contributions [h, w] in colours from their least to their greatest, at a picture's (height, width)."""
    low, span = float(heat.min()), max(float(heat.max() - heat.min()), FLAT)
    size = (max(1, round(shape[1] * SIDE / shape[0])), SIDE)
    grey = PILImage.fromarray(((heat - low) / span).astype(np.float32)).resize(size, Resampling.BILINEAR)
    level, at = np.asarray(grey, np.float64), np.linspace(0.0, 1.0, len(SCALE))
    parts = [np.interp(level, at, np.array(channel, np.float64)) for channel in zip(*SCALE, strict=True)]
    return PILImage.fromarray(np.rint(np.stack(parts, axis=2)).astype(np.uint8))
