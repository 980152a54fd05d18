"""Pictures of what was kept: patches over the picture, and the cache's share of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image, Resampling

SIDE = 336


def kept_patches(image: Image, grid: tuple[int, int], keep: Sequence[int], side: int = SIDE) -> Image:
    """The picture with the dropped patches darkened.

    Args:
        image: RGB; stretched to the grid's square, as the tower sees it.
        grid: rows and columns of patches.
        keep: indices of the kept ones in raster order.
        side: of the result, pixels.
    """
    flags = np.zeros(grid[0] * grid[1], dtype=np.uint8)
    flags[list(keep)] = 255
    mask = PILImage.fromarray(flags.reshape(grid)).resize((side, side), Resampling.NEAREST)
    shown = image.convert("RGB").resize((side, side), Resampling.BILINEAR)
    dark = np.asarray(shown, np.float32) * 0.2 + 20.0
    base = np.where(np.asarray(mask)[..., None] > 0, np.asarray(shown, np.float32), dark)
    return PILImage.fromarray(base.astype(np.uint8))


def summary_figure(pictures: Sequence[tuple[Image, str]], tokens: Sequence[int] | None, full: int) -> Any:
    """Kept patches, and the layers' bars where the cache was compressed, side by side."""
    from matplotlib.figure import Figure

    columns = len(pictures) + (tokens is not None)
    figure = Figure(figsize=(3.6 * columns, 3.8), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis, (picture, title) in zip(axes, pictures, strict=False):
        axis.imshow(np.asarray(picture))
        axis.set_title(title)
        axis.set_axis_off()
    if tokens is not None:
        axes[-1].bar(range(len(tokens)), tokens)
        axes[-1].axhline(full, linestyle="--", linewidth=1)
        axes[-1].set_title(f"cache: {sum(tokens)} of {full * len(tokens)} tokens")
        axes[-1].set_xlabel("layer")
        axes[-1].set_ylabel("tokens; dashed: uncompressed")
    return figure
