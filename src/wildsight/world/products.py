"""Product-like objects with normal variation, and defects with exact pixel masks.

Every picture is a function of (category, seed, defect, size). A defective picture and its clean
twin share all random draws; the mask is where their noise-free renderings differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError
from wildsight.files import atomic_folder, digest_of
from wildsight.images import from_array
from wildsight.world.product_kinds import FLAT, KINDS, Layers
from wildsight.world.ranges import whole
from wildsight.world.shapes2d import Array, cover, noise, segment
from wildsight.world.sums import turned

CATEGORIES: tuple[str, ...] = tuple(KINDS)
DEFECTS: tuple[str, ...] = (
    "scratch", "stain", "crack", "missing_part", "wrong_part", "deformation", "foreign_texture",
)  # fmt: skip
VISIBLE = 6 / 255  # a change of the noise-free picture above this, in any channel, is a defect pixel
_OVERSAMPLE = 2


@dataclass(frozen=True)
class Product:
    """``image`` uint8 [H, W, 3] and ``mask`` bool [H, W], true on defect pixels."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def _rng(*key: object) -> np.random.Generator:
    return np.random.default_rng(int(digest_of(list(key))[:16], 16))


def _place(category: str, seed: int, size: int) -> tuple[Array, Array]:
    """Object coordinates [S, S] of every sample under a random position, rotation and scale."""
    rng = _rng("pose", category, seed)
    line = (np.arange(size * _OVERSAMPLE) + 0.5) / (size * _OVERSAMPLE) * 2 - 1
    x, y = np.meshgrid(line, line)
    turn = rng.uniform(-0.12, 0.12) if category in FLAT else rng.uniform(-0.4, 0.4)
    x, y = (x - rng.uniform(-0.07, 0.07)) * (s := rng.uniform(1.0, 1.1)), (y - rng.uniform(-0.07, 0.07)) * s
    c, s = np.cos(turn), np.sin(turn)
    back: Array = np.array(((c, s), (-s, c)))
    u, v = turned(back, np.stack((x.ravel(), y.ravel()))).reshape(2, *x.shape)
    return u, v


def _spot(layers: Layers, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Object coordinates [2] of a random sample well inside the product and the picture.

    The first that lies inside, in a random order of all samples: were those inside counted, one sample at
    the border would move the choice.
    """
    inside = (layers.cover > 0.99) & (np.maximum(np.abs(u), np.abs(v)) < 0.72)
    order = rng.permutation(inside.size)
    pick = order[inside.ravel()[order].argmax()]
    return np.array((u.flat[pick], v.flat[pick]))


def _bend(u: Array, v: Array, layers: Layers, rng: np.random.Generator) -> tuple[Array, Array]:
    """Coordinates dragged sideways about a random spot."""
    at, turn = _spot(layers, u, v, rng), rng.uniform(0, 2 * np.pi)
    pull = rng.uniform(0.14, 0.2) * np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / (2 * 0.16**2))
    return u + pull * np.cos(turn), v + pull * np.sin(turn)


def _path(at: Array, rng: np.random.Generator, steps: int, length: float, bend: float) -> Array:
    """Corner points [steps + 1, 2] of a random walk centred near ``at``."""
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    points = np.cumsum(np.stack((np.cos(turns), np.sin(turns)), 1), 0) * length / steps
    path: Array = np.vstack((np.zeros((1, 2)), points)) - points.mean(0) + at
    return path


def _line(u: Array, v: Array, points: Array) -> Array:
    nearest: Array = np.min([segment(u, v, a, b) for a, b in pairwise(points)], axis=0)
    return nearest


def _scratch(layers: Layers, u: Array, v: Array, at: Array, rng: np.random.Generator) -> None:
    distance = _line(u, v, _path(at, rng, 5, rng.uniform(0.4, 0.75), 0.1))
    layers.paint(0.75 * cover(distance - 0.012), (0.93, 0.92, 0.9), -0.02)


def _crack(layers: Layers, u: Array, v: Array, at: Array, rng: np.random.Generator) -> None:
    trunk = _path(at, rng, 9, rng.uniform(0.6, 0.9), 0.6)
    branch = _path(trunk[4], rng, 4, 0.3, 0.5)
    branch += trunk[4] - branch[0]
    distance = np.minimum(_line(u, v, trunk) - 0.016, _line(u, v, branch) - 0.01)
    layers.paint(0.85 * cover(distance), (0.06, 0.05, 0.05), -0.03)


def _blob(u: Array, v: Array, at: Array, rng: np.random.Generator) -> Array:
    distance: Array = np.hypot(u - at[0], v - at[1]) - rng.uniform(0.16, 0.26) + 0.09 * noise(u, v, 5, rng)
    return distance


def _stain(layers: Layers, u: Array, v: Array, at: Array, rng: np.random.Generator) -> None:
    distance = _blob(u, v, at, rng)
    strength = 0.4 * cover(distance, 0.06) + 0.15 * cover(np.abs(distance + 0.015) - 0.015, 0.03)
    layers.paint(strength, ((0.3, 0.18, 0.06), (0.08, 0.1, 0.16))[int(rng.integers(2))])


def _foreign(layers: Layers, u: Array, v: Array, at: Array, rng: np.random.Generator, category: str) -> None:
    other = "tile" if category == "fabric" else "fabric"
    texture = KINDS[other](u, v, rng, "")
    patch = cover(_blob(u, v, at, rng) - 0.03)
    layers.paint(patch, texture.colour)
    layers.height += patch * (texture.height - layers.height) * 0.5


def _surface(
    layers: Layers, u: Array, v: Array, defect: str, category: str, rng: np.random.Generator
) -> None:
    at = _spot(layers, u, v, rng)
    if defect == "foreign_texture":
        _foreign(layers, u, v, at, rng, category)
    else:
        {"scratch": _scratch, "crack": _crack, "stain": _stain}[defect](layers, u, v, at, rng)


def _layers(category: str, seed: int, size: int, defect: str) -> Layers:
    """The product's layers at the oversampled size, before light."""
    u, v = _place(category, seed, size)
    part = defect if defect in ("missing_part", "wrong_part") else ""
    layers = KINDS[category](u, v, _rng("texture", category, seed), part)
    rng = _rng("defect", category, seed, defect)
    if defect == "deformation":
        return KINDS[category](*_bend(u, v, layers, rng), _rng("texture", category, seed), part)
    if defect and not part:
        _surface(layers, u, v, defect, category, rng)
    return layers


def _lit(layers: Layers, category: str, seed: int, size: int) -> Array:
    """The noise-free picture [size, size, 3] in [0, 1]: one lamp, a highlight, a soft shadow, a table."""
    rng = _rng("light", category, seed)
    side = size * _OVERSAMPLE
    gv, gu = np.gradient(layers.height, 2 / side)
    turn, warmth, power = rng.uniform(3.4, 4.4), rng.uniform(-0.03, 0.03), rng.uniform(0.88, 1.08)
    lamp = np.array((0.6 * np.cos(turn), 0.6 * np.sin(turn), 0.8))
    facing = (lamp[2] - lamp[0] * gu - lamp[1] * gv) / np.sqrt(1 + gu**2 + gv**2)
    shade = (0.35 + 0.8 * np.clip(facing, 0, None))[..., None]
    shine = 0.35 * np.clip(facing, 0, 1)[..., None] ** 24
    line = np.linspace(-1, 1, side)
    table = 0.16 + 0.02 * noise(*np.meshgrid(line, line), 12, rng)
    shift = (-int(np.sin(turn) * side * 0.02), -int(np.cos(turn) * side * 0.02))
    table = table * (1 - 0.5 * np.roll(layers.cover, shift, (0, 1)))
    share, table = layers.cover[..., None], table[..., None]
    picture = share * (layers.colour * shade + shine) + (1 - share) * table
    picture = picture * power * np.array((1 + warmth, 1.0, 1 - warmth))
    averaged: Array = picture.reshape(size, _OVERSAMPLE, size, _OVERSAMPLE, 3).mean((1, 3)).clip(0.0, 1.0)
    return averaged


def _check(category: str, defect: str | None, size: int) -> None:
    if category not in CATEGORIES:
        raise ConfigError(f"unknown category {category!r}", hint=f"choose one of {', '.join(CATEGORIES)}")
    if defect is not None and defect not in DEFECTS:
        raise ConfigError(f"unknown defect {defect!r}", hint=f"choose one of {', '.join(DEFECTS)}")
    whole(size, "size", 32, 1024)


def render_product(category: str, seed: int, *, defect: str | None = None, size: int = 128) -> Product:
    """Draw one product, good or with one defect.

    Args:
        category: one of `CATEGORIES`.
        seed: fixes position, rotation, light, texture, noise and the defect.
        defect: one of `DEFECTS`, or None for a good product.
        size: side of the picture in pixels, 32 to 1024.

    Returns:
        The picture and its mask. A defect pixel is one whose noise-free value differs from the
        good twin's (same seed) by more than `VISIBLE` in any channel.

    Raises:
        ConfigError: unknown category or defect, or a size outside the range.

    >>> render_product("bolt", 0, defect="scratch", size=64).mask.any()
    np.True_
    """
    _check(category, defect, size)
    clean = _lit(_layers(category, seed, size, ""), category, seed, size)
    picture = clean if defect is None else _lit(_layers(category, seed, size, defect), category, seed, size)
    mask = np.abs(picture - clean).max(-1) > VISIBLE
    noisy = picture + _rng("noise", category, seed).normal(0, 0.012, picture.shape)
    return Product((np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8), mask)


def _save(folder: Path, index: int, array: npt.NDArray[np.uint8], suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    from_array(array).save(folder / f"{index:03d}{suffix}.png")


def _export_category(
    root: Path, category: str, good: int, test_good: int, test_bad: int, size: int, first: int
) -> None:
    for index in range(good + test_good):
        where = root / ("train/good" if index < good else "test/good")
        product = render_product(category, first + index, size=size)
        _save(where, index if index < good else index - good, product.image)
    for index in range(test_bad):
        defect, number = DEFECTS[index % len(DEFECTS)], index // len(DEFECTS)
        product = render_product(category, first + good + test_good + index, defect=defect, size=size)
        _save(root / "test" / defect, number, product.image)
        _save(root / "ground_truth" / defect, number, product.mask.astype(np.uint8) * 255, "_mask")


def export_products(
    folder: str | Path,
    *,
    good: int = 60,
    test_good: int = 20,
    test_bad: int = 20,
    size: int = 128,
    seed: int = 0,
) -> Path:
    """Write every category in the MVTec layout, whole or not at all.

    Args:
        folder: target; an earlier export there is replaced, anything else refused.
        good: training pictures per category.
        test_good: good test pictures per category.
        test_bad: defective test pictures per category, dealt over `DEFECTS` in turn.
        size: side in pixels, 32 to 1024.
        seed: 0 or more; different seeds give disjoint pictures.

    Raises:
        ConfigError: a negative count or seed, no training picture, a size outside the range, or a
        folder that holds something else.
        DataError: the folder cannot be written.
    """
    _check(CATEGORIES[0], None, size)
    whole(good, "good", 1, 10**6)
    for name, value in {"test_good": test_good, "test_bad": test_bad, "seed": seed}.items():
        whole(value, name, 0, 10**7 if name == "seed" else 10**6)
    with atomic_folder(folder) as root:
        for category in CATEGORIES:
            _export_category(root / category, category, good, test_good, test_bad, size, seed * 1_000_003)
    return Path(folder)
