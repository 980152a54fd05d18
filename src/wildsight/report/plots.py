"""Pictures for reports: curves, heat maps over pictures, pictures side by side."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image, Resampling

# Colours of a heat map by level: blue is normal, yellow is close, red begins at the threshold (1).
LEVELS = (0.0, 0.5, 0.8, 1.0, 2.0)
STEPS = 127
"""Steps of a heat map's 8-bit level from normal to the threshold."""
COLOURS = ((0.1, 0.3, 1.0), (0.0, 0.8, 0.6), (1.0, 0.85, 0.0), (1.0, 0.1, 0.0), (0.75, 0.0, 0.1))


def new_figure(columns: int = 1, size: tuple[float, float] = (6.0, 3.2)) -> tuple[Any, Any]:
    """A matplotlib figure and its axes, without a window system."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def curve(lines: Mapping[str, Sequence[float]], title: str) -> Any:
    """Lines over their index."""
    figure, axes = new_figure()
    for name, values in lines.items():
        axes[0].plot(values, label=name)
    axes[0].set_title(title)
    axes[0].set_xlabel("epoch")
    axes[0].legend()
    return figure


def bars(values: Mapping[str, tuple[float, float]], title: str) -> Any:
    """Horizontal bars: name -> (mean, standard deviation), the first on top."""
    figure, axes = new_figure(size=(6.0, 1.0 + 0.35 * len(values)))
    means, errors = [m for m, _ in values.values()], [s for _, s in values.values()]
    axes[0].barh(list(values), means, xerr=errors, capsize=3)
    axes[0].invert_yaxis()
    axes[0].set_title(title)
    return figure


def scatter(points: Mapping[str, tuple[float, float]], across: str, up: str) -> Any:
    """Named points: name -> (x, y)."""
    figure, axes = new_figure()
    for name, (x, y) in points.items():
        axes[0].scatter(x, y)
        axes[0].annotate(name, (x, y), textcoords="offset points", xytext=(5, 3))
    axes[0].set_xlabel(across)
    axes[0].set_ylabel(up)
    axes[0].margins(0.15)
    return figure


def side_by_side(pictures: Sequence[tuple[Image, str]]) -> Any:
    """Pictures with titles in one row."""
    figure, axes = new_figure(len(pictures), (3.2 * len(pictures), 3.4))
    for axis, (picture, title) in zip(axes, pictures, strict=True):
        axis.imshow(np.asarray(picture))
        axis.set_title(title)
        axis.set_axis_off()
    return figure


def overlay_heatmap(picture: Image, heat: np.ndarray, mask: np.ndarray | None = None) -> Image:
    """A heat map laid over a picture.

    Args:
        picture: RGB.
        heat: [h, w], 0 is normal and 1 the threshold; stretched to the picture, in steps of 1 / 127.
        mask: [h, w] bool, drawn as a white outline.
    """
    palette, weights = _tables()
    steps = np.rint(np.clip(heat, 0.0, LEVELS[-1]) * STEPS).astype(np.uint8)
    level = PILImage.fromarray(steps).resize(picture.size, Resampling.BILINEAR)
    colours = level.copy()
    colours.putpalette(palette)
    mixed = PILImage.composite(colours.convert("RGB"), picture.convert("RGB"), level.point(weights))
    if mask is not None:
        mixed.paste((255, 255, 255), mask=PILImage.fromarray(outline_mask(mask, picture.size)))
    return mixed


@functools.cache
def _tables() -> tuple[bytes, list[int]]:
    """Colour and weight of each step of a heat map, 0 to 255."""
    level = np.arange(256) / STEPS
    colours = np.stack([np.interp(level, LEVELS, channel) for channel in zip(*COLOURS, strict=True)], axis=1)
    weights = np.rint(np.clip(0.6 * level, 0.0, 0.75) * 255).astype(int).tolist()
    return np.rint(colours * 255).astype(np.uint8).tobytes(), weights


def outline_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Inner border of a mask.

    Args:
        mask: [h, w] bool.
        size: (width, height) it is stretched to, pixels.

    Returns:
        [height, width] bool.
    """
    full = np.asarray(PILImage.fromarray(mask.astype(np.uint8) * 255).resize(size, Resampling.NEAREST)) > 0
    inside = np.pad(full, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return full & ~core
