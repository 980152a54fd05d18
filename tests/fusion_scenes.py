"""Small scenes on disk: two discs that no single modality tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

DELIVER = {"img": "rgb", "hha": "depth", "event": "event", "lidar": "lidar", "semantic": "semantic"}


def scene(seed: int, side: int = 32) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Modalities [H, W] uint8 and class ids: class 1 is bright in rgb, class 2 in thermal, 3 in both."""
    draw = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for label in draw.permutation([1, 2, 3]):
        y, x = draw.integers(6, side - 6, 2)
        mask[(rows - y) ** 2 + (columns - x) ** 2 < 36] = label
    planes = {"rgb": np.isin(mask, (1, 3)), "thermal": np.isin(mask, (2, 3)), "depth": mask > 0}
    noise = {n: draw.normal(0, 10, mask.shape) for n in planes}
    return {n: np.clip(60 + 140 * p + noise[n], 0, 255).astype(np.uint8) for n, p in planes.items()}, mask


def write(root: Path, train: int = 12, test: int = 4, classes: bool = True) -> Path:
    """A plain folder with rgb, thermal and depth."""
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            planes, mask = scene(number + 1000 * (split == "test"))
            for name, plane in {**planes, "masks": mask}.items():
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(plane).save(folder / f"{number:03d}.png")
    if classes:
        (root / "fusion.json").write_text('{"classes": ["none", "one", "two", "both"]}')
    return root


def deliver_frame(
    root: Path, place: tuple[str, str, str], frame: str, planes: Mapping[str, np.ndarray]
) -> None:
    """One frame of DELIVER's layout: a plane per folder of `DELIVER`, at (weather, split, scene)."""
    for folder, kind in DELIVER.items():
        file = root.joinpath(folder, *place, f"{frame}_{kind}_front.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(planes[folder]).save(file)
