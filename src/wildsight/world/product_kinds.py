"""The seven product categories: each a function from object coordinates to colour, coverage and height."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wildsight.world.shapes2d import Array, box, circle, cover, noise, polygon


@dataclass
class Layers:
    """What a category draws: ``colour`` [H, W, 3] and ``cover`` [H, W] in [0, 1], ``height`` [H, W]."""

    colour: Array
    cover: Array
    height: Array

    def paint(self, where: Array, colour: tuple[float, float, float] | Array, height: float = 0.0) -> None:
        """Lay ``colour`` over the share ``where`` [H, W] and raise it by ``height`` object units."""
        self.colour += where[..., None] * (np.asarray(colour) - self.colour)
        self.height += where * height


def _blank(distance: Array, colour: tuple[float, float, float]) -> Layers:
    shape = distance.shape
    # A rounded rim, 0.08 wide, catches the light.
    rim = np.sqrt(np.clip(-distance / 0.08, 0, 1)) * 0.06
    return Layers(np.broadcast_to(np.array(colour), (*shape, 3)).copy(), cover(distance), rim)


def _metal(layers: Layers, u: Array, v: Array, rng: np.random.Generator) -> None:
    layers.colour *= (1 + 0.08 * noise(u, v * 0.08, 30, rng) + 0.05 * noise(u, v, 5, rng))[..., None]


def bolt(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """A hexagon bolt from the side; missing: the tip; wrong: a dome head."""
    end = 0.42 if part == "missing_part" else 0.78
    shaft = box(u - (end - 0.4) / 2, v, (end + 0.4) / 2, 0.17, 0.03)
    thread = 0.02 * np.sin(58 * (u + 0.12 * v)) * (u > -0.1)
    head = box(u + 0.57, v, 0.19, 0.42, 0.05)
    if part == "wrong_part":
        head = np.maximum(circle(u + 0.38, v, 0.42), u + 0.38)
    layers = _blank(np.minimum(shaft + thread, head), (0.66, 0.67, 0.7))
    round_bar = 0.12 * np.sqrt(np.clip(1 - (v / 0.19) ** 2, 0, 1))
    layers.height += cover(shaft) * (round_bar + 1.2 * thread)
    facet = 0.14 * np.clip(1.4 - np.abs(v) / 0.3, 0, 1)
    layers.height += cover(head) * (facet if part != "wrong_part" else 0.3 * np.sqrt(np.clip(-head, 0, 1)))
    _metal(layers, u, v, rng)
    return layers


def washer(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """A toothed lock washer; missing: three teeth; wrong: a hexagonal hole."""
    angle = np.arctan2(v, u)
    teeth = 0.06 * np.tanh(4 * np.cos(16 * angle))
    if part == "missing_part":
        teeth = np.where(np.abs(angle) < 0.62, -0.08, teeth)
    hole = polygon(u, v, 6, 0.32) if part == "wrong_part" else circle(u, v, 0.34)
    layers = _blank(np.maximum(circle(u, v, 0.72) - teeth, -hole), (0.74, 0.68, 0.52))
    _metal(layers, np.hypot(u, v), angle, rng)
    return layers


def cable(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """A cut three-core cable; missing: a core; wrong: a core of another colour."""
    layers = _blank(circle(u, v, 0.82), (0.24, 0.25, 0.27))
    layers.paint(cover(circle(u, v, 0.7)), (0.82, 0.8, 0.74), -0.03)
    colours = [(0.15, 0.32, 0.68), (0.5, 0.27, 0.13), (0.3, 0.62, 0.22)]
    for index, colour in enumerate(colours):
        a = 2 * np.pi * index / 3 + 0.5
        cu, cv = u - 0.37 * np.cos(a), v - 0.37 * np.sin(a)
        if index == 0 and part == "missing_part":
            layers.paint(cover(circle(cu, cv, 0.29)), (0.3, 0.28, 0.26), -0.06)
            continue
        swapped = index == 0 and part == "wrong_part"
        layers.paint(cover(circle(cu, cv, 0.29)), (0.75, 0.15, 0.15) if swapped else colour, 0.05)
        strands = 0.5 + 0.5 * np.cos(46 * cu) * np.cos(46 * cv)
        copper = np.array((0.86, 0.52, 0.3)) * (0.65 + 0.45 * strands[..., None])
        layers.paint(cover(circle(cu, cv, 0.17)), copper, -0.02)
    layers.colour *= (1 + 0.06 * noise(u, v, 14, rng))[..., None]
    return layers


def tile(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """Speckled ceramic tiles that fill the picture; missing: a tile; wrong: a tile of another glaze."""
    pitch = 0.5
    iu, iv = np.floor(u / pitch), np.floor(v / pitch)
    edge = box(u - (iu + 0.5) * pitch, v - (iv + 0.5) * pitch, 0.225, 0.225, 0.04)
    layers = _blank(np.full_like(u, -1.0), (0.5, 0.48, 0.45))
    glaze = np.array((0.62, 0.74, 0.76)) * (1 + 0.05 * np.sin(12.9 * iu + 78.2 * iv))[..., None]
    here = cover(edge) * ((iu == 0) & (iv == 0))
    if part == "wrong_part":
        glaze = np.where(here[..., None] > 0, np.array((0.72, 0.6, 0.45)), glaze)
    laid = cover(edge) - (here if part == "missing_part" else 0.0)
    layers.paint(laid, glaze, 0.04)
    speck = np.clip(noise(u, v, 22, rng) - 0.45, 0, 1) * 0.9 * laid
    layers.paint(speck, (0.2, 0.28, 0.33))
    layers.colour *= (1 + 0.05 * noise(u, v, 30, rng))[..., None]
    return layers


def bottle_cap(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """A crimped crown cap with a star; missing: the star; wrong: a star with six points."""
    angle, radius = np.arctan2(v, u), np.hypot(u, v)
    layers = _blank(radius - 0.76 - 0.035 * np.cos(21 * angle), (0.72, 0.13, 0.14))
    layers.height += 0.03 * np.cos(21 * angle) * np.clip((radius - 0.58) / 0.12, 0, 1)
    layers.height += 0.08 * cover(circle(u, v, 0.6), 0.14)
    layers.paint(cover(np.abs(radius - 0.5) - 0.02), (0.94, 0.88, 0.7))
    points = 6 if part == "wrong_part" else 5
    if part != "missing_part":
        star = radius - 0.27 - 0.12 * np.abs(2 * np.mod(angle * points / (2 * np.pi), 1) - 1) ** 1.3
        layers.paint(cover(star), (0.94, 0.88, 0.7), 0.01)
    layers.colour *= (1 + 0.05 * noise(u, v, 9, rng))[..., None]
    return layers


_PARTS = ((-0.5, -0.42), (-0.18, -0.42), (0.5, -0.2), (0.5, 0.1), (0.5, 0.4), (-0.52, 0.42))


def pcb(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """A circuit board with a chip and resistors; missing: a resistor; wrong: a capacitor in its place."""
    layers = _blank(box(u, v, 0.84, 0.68, 0.06), (0.07, 0.36, 0.2))
    for offset in (-0.24, -0.08, 0.08, 0.24):
        track = np.abs(v - offset - 0.25 * np.clip(np.abs(u) - 0.42, 0, 0.3) * np.sign(offset)) - 0.016
        layers.paint(cover(track) * (np.abs(u) < 0.78), (0.16, 0.52, 0.28), 0.005)
        layers.paint(cover(box(u + 0.05, v - offset, 0.38, 0.035)), (0.82, 0.82, 0.8), 0.02)
    layers.paint(cover(box(u + 0.05, v, 0.3, 0.3, 0.02)), (0.13, 0.13, 0.15), 0.06)
    layers.paint(cover(circle(u + 0.27, v + 0.22, 0.03)), (0.5, 0.5, 0.5))
    for index, (pu, pv) in enumerate(_PARTS):
        layers.paint(cover(box(u - pu, v - pv, 0.14, 0.06)), (0.85, 0.72, 0.35), 0.01)
        if index == 3 and part == "wrong_part":
            layers.paint(cover(circle(u - pu, v - pv, 0.11)), (0.8, 0.55, 0.15), 0.08)
        elif index != 3 or part != "missing_part":
            layers.paint(cover(box(u - pu, v - pv, 0.1, 0.06, 0.01)), (0.2, 0.2, 0.24), 0.05)
            layers.paint(cover(box(u - pu, v - pv, 0.015, 0.05)), (0.85, 0.85, 0.85))
    layers.colour *= (1 + 0.06 * noise(u, v, 18, rng))[..., None]
    return layers


def fabric(u: Array, v: Array, rng: np.random.Generator, part: str) -> Layers:
    """A plain weave that fills the picture; missing: part of a thread; wrong: a thread of another dye."""
    threads = 9.0
    x, y = u * threads + 0.15 * noise(u, v, 3, rng), v * threads + 0.15 * noise(u, v, 3, rng)
    over = (np.floor(x) + np.floor(y)) % 2 == 0
    across = np.where(over, y, x) % 1.0 - 0.5
    along = np.where(over, x, y) % 1.0 - 0.5
    layers = _blank(np.full_like(u, -1.0), (0.2, 0.24, 0.36))
    hidden = over & (np.floor(y) == 1) & (np.abs(u) < 0.45)
    dye = np.where(over[..., None], np.array((0.44, 0.5, 0.66)), np.array((0.36, 0.41, 0.57)))
    if part == "wrong_part":
        dye = np.where(hidden[..., None], np.array((0.72, 0.5, 0.3)), dye)
    strand = np.clip(1.1 - (2.1 * across) ** 2, 0, 1) * (~hidden if part == "missing_part" else 1.0)
    layers.paint(np.clip(1.5 * strand, 0, 1), dye)
    layers.height += 0.05 * strand * (1 - along**2)
    layers.colour *= (1 + 0.1 * noise(u, v, 31, rng))[..., None]
    return layers


KINDS: dict[str, Callable[[Array, Array, np.random.Generator, str], Layers]] = {
    "bolt": bolt, "washer": washer, "cable": cable, "tile": tile,
    "bottle_cap": bottle_cap, "pcb": pcb, "fabric": fabric,
}  # fmt: skip
FLAT = frozenset({"tile", "fabric"})
