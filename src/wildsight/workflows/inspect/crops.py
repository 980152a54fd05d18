"""Crops of finds and of good pictures, as large as each other, for grouping and learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL.Image import Image

from wildsight.errors import ImageError
from wildsight.files import atomic_path
from wildsight.images import load_image
from wildsight.workflows.inspect.project import GOOD_CROPS, Project

CROP, MARGIN = 96, 0.35
LEAST_CROP = 16.0


def write_picture(file: Path, picture: Image) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_path(file) as temporary:
        picture.save(temporary, format="PNG")


def cropped(picture: Image, box: tuple[float, float, float, float]) -> Image:
    """A square around a box with some surroundings, inside the picture, `CROP` pixels a side.

    It shows at least `LEAST_CROP` pixels of the picture a side, where the picture has them.
    """
    left, top, right, bottom = box
    side = max(max(right - left, bottom - top) * (1 + 2 * MARGIN), LEAST_CROP)
    side = min(side, *map(float, picture.size))
    x = min(max((left + right - side) / 2, 0.0), picture.width - side)
    y = min(max((top + bottom - side) / 2, 0.0), picture.height - side)
    return picture.resize((CROP, CROP), box=(x, y, x + side, y + side))


def good_crops(project: Project) -> list[Path]:
    """Crops of good pictures, as large as the finds, made once."""
    from wildsight.anomaly.data import read_source

    folder = project.folder / GOOD_CROPS
    kept = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if kept:
        return kept
    sides = [max(f.box[2] - f.box[0], f.box[3] - f.box[1]) for p in project.looked.values() for f in p.finds]
    side, rng = float(np.median(sides)), np.random.default_rng(0)
    good = [s for s in read_source(project.settings["good"]).train if s.label == 0]
    for number, i in enumerate(rng.permutation(len(good))[:24].tolist()):
        picture = load_image(good[i].image)
        edge = min(side, *map(float, picture.size))
        x, y = rng.uniform(0, picture.width - edge + 1e-9), rng.uniform(0, picture.height - edge + 1e-9)
        write_picture(folder / f"good-{number:03d}.png", cropped(picture, (x, y, x + edge, y + edge)))
    return sorted(folder.glob("*.png"))


def readable(file: Path) -> bool:
    """Whether a crop is there and whole."""
    try:
        load_image(file)
    except ImageError:
        return False
    return True
