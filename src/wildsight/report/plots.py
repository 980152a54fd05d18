"""Pictures for reports: curves, heat maps over pictures, pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image, Resampling


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
        heat: [h, w], 0 is normal and 1 the threshold; stretched to the picture.
        mask: [h, w] bool, drawn as a white outline.
    """
    level = _stretch(np.clip(heat, 0.0, 2.0).astype(np.float32) / 2.0, picture.size)
    colours = np.stack(
        [_ramp(level, 0.5), _ramp(1.0 - np.abs(level * 2 - 0.8), 0.5), 1.0 - level * 2], axis=2
    )
    weight = (0.75 * np.clip(level * 1.6, 0.0, 1.0))[..., None]
    base = np.asarray(picture.convert("RGB"), np.float32) / 255.0
    mixed = base * (1 - weight) + np.clip(colours, 0, 1) * weight
    if mask is not None:
        mixed[_outline(mask, picture.size)] = 1.0
    return PILImage.fromarray(np.rint(mixed * 255).astype(np.uint8))


def _ramp(values: np.ndarray, start: float) -> np.ndarray:
    return np.clip((values - start) / (1.0 - start) * 2.0, 0.0, 1.0)


def _stretch(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(PILImage.fromarray(values).resize(size, Resampling.BILINEAR))


def _outline(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Inner border of a mask, stretched to ``size``."""
    full = np.asarray(PILImage.fromarray(mask.astype(np.uint8) * 255).resize(size, Resampling.NEAREST)) > 0
    inside = np.pad(full, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return full & ~core
