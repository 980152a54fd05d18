"""Contact sheets: one picture that shows a part of the world at a glance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from wildsight.images import from_array
from wildsight.world.products import CATEGORIES, DEFECTS, render_product
from wildsight.world.render import render
from wildsight.world.scene import random_scene


def _compose(rows: list[list[npt.NDArray[np.uint8]]]) -> Image.Image:
    return from_array(np.vstack([np.hstack(row) for row in rows]))


def products_sheet(*, size: int = 128, seed: int = 0) -> Image.Image:
    """Categories down; across: a good product, then each of `DEFECTS` with its mask tinted below it."""
    rows = []
    for category in CATEGORIES:
        shown = [render_product(category, seed, size=size)]
        shown += [render_product(category, seed + 1 + i, defect=d, size=size) for i, d in enumerate(DEFECTS)]
        rows.append([item.image for item in shown])
        tinted = [np.where(item.mask[..., None], (255, 40, 40), item.image // 2) for item in shown]
        rows.append([picture.astype(np.uint8) for picture in tinted])
    return _compose(rows)


def scenes_sheet(*, rows: int = 3, columns: int = 5, size: int = 128, seed: int = 0) -> Image.Image:
    """Random scenes of two to six things."""
    seeds = np.arange(seed, seed + rows * columns).reshape(rows, columns)
    return _compose(
        [[render(random_scene(int(s), count=2 + int(s) % 5), size).rgb for s in row] for row in seeds]
    )
