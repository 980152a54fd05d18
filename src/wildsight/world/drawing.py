"""Free-hand-like sketches: a person's lines, not an edge map of the picture.

The lines of a solid (`outlines3d`) are projected, hidden stretches dropped, and the rest drawn as an
unsteady hand would: few points to a curve, wobble, corners that miss or cross, gaps, lines left out, lines
drawn twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from wildsight.errors import ConfigError
from wildsight.world.outlines3d import lines_of, runs
from wildsight.world.render import check_size, trace
from wildsight.world.scene import Array, Scene, check_seed
from wildsight.world.sums import lengths, turned

_OVER = 4  # drawn at this many times the size, then averaged


@dataclass(frozen=True)
class Hand:
    """How unsteady the hand is; lengths in shares of the picture's side, shares of lines in [0, 1]."""

    wobble: float = 0.007
    """Standard deviation of a point about its place."""
    overshoot: float = 0.012
    """Standard deviation of how far an end runs on, or stops short."""
    gap: float = 0.12
    """Share of lines with a gap."""
    leave_out: float = 0.06
    """Share of lines not drawn, of those that are not most of the drawing."""
    again: float = 0.15
    """Share of lines drawn twice."""
    slant: float = 0.06
    """Standard deviation of the turn, stretch and shear of the whole drawing."""
    width: float = 0.014
    """Mean width of the pen; never under a pixel."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"is {getattr(self, name)}", where=name, hint="give 0 to 1")


def visible_lines(scene: Scene, size: int = 256) -> list[Array]:
    """Visible stretches of every thing's lines as polylines [N, 2] in shares of the picture's side."""
    out: list[Array] = []
    for thing in scene.things:
        to_unit = (thing.turn / thing.extent).T
        eye = turned(to_unit, scene.camera.eye - thing.centre)
        lines = [thing.placed(line * thing.extent) for line in lines_of(thing.shape, eye)]
        points = np.vstack(lines)
        seen, pixels = scene.camera.see(points)[:, 2], scene.camera.project(points, size)
        first = trace(scene, size, pixels.T).depth
        shown = first > seen - 0.025 * float(thing.extent.max())
        ends = np.cumsum([len(line) for line in lines])[:-1]
        for line, keep in zip(np.split(pixels / size, ends), np.split(shown, ends), strict=True):
            out += runs(line, keep)
    return [line for line in out if np.ptp(line, axis=0).max() > 0.015]


def sketch(scene: Scene, size: int = 96, *, seed: int = 0, hand: Hand | None = None) -> npt.NDArray[np.uint8]:
    """Draw the things of a scene by hand.

    Args:
        scene: what is drawn; its floor, light and colours are not.
        size: side of the picture in pixels, 16 to 1024.
        seed: 0 or more; fixes the hand's errors.
        hand: how unsteady it is.

    Returns:
        uint8 [size, size, 3], black on white.

    Raises:
        ConfigError: a size, a seed or an unsteadiness outside its range.
    """
    check_size(size)
    check_seed(seed)
    hand, rng = hand or Hand(), np.random.default_rng((scene.seed, seed, 4))
    slant = np.eye(2) + rng.normal(0, hand.slant, (2, 2))
    paper = Image.new("L", (size * _OVER, size * _OVER), 255)
    pen = ImageDraw.Draw(paper)
    width = hand.width * rng.uniform(0.7, 1.4)
    lines = visible_lines(scene)
    whole = sum(map(_length, lines))
    for line in lines:
        if rng.random() < hand.leave_out and _length(line) < 0.2 * whole:
            continue
        for _ in range(1 + (rng.random() < hand.again)):
            for stroke in _drawn(turned(slant.T, line.T - 0.5).T + 0.5, hand, rng):
                thick = round(max(1.0, width * rng.uniform(0.8, 1.2) * size) * _OVER)
                points = [(float(x), float(y)) for x, y in stroke * size * _OVER]
                pen.line(points, fill=int(rng.integers(0, 60)), width=thick, joint="curve")
    small = np.asarray(paper, np.float32).reshape(size, _OVER, size, _OVER).mean((1, 3))
    return np.repeat((small + 0.5).astype(np.uint8)[..., None], 3, 2)


def _length(line: Array) -> float:
    return float(lengths(np.diff(line.T)).sum())


def _drawn(line: Array, hand: Hand, rng: np.random.Generator) -> list[Array]:
    """One line [N, 2] as strokes of an unsteady hand; a closed one starts anywhere."""
    if len(line) > 8 and np.allclose(line[0], line[-1], atol=1e-4):
        line = np.roll(line[:-1], int(rng.integers(len(line) - 1)), axis=0)
        line = np.vstack((line, line[:2]))
    path = _smooth(_few(line, rng), hand, rng)
    path = _ends(path, hand, rng)
    if rng.random() < hand.gap and len(path) > 12:
        at = int(rng.integers(4, len(path) - 7))
        return [path[:at], path[at + 3 :]]
    return [path]


def _few(line: Array, rng: np.random.Generator) -> Array:
    """The few points [M, 2] that a hand aims for: two for a straight line, one per stretch of a bend."""
    gaps = lengths(np.diff(line.T))
    length = np.concatenate(([0.0], np.cumsum(gaps)))
    chord = float(np.hypot(*(line[-1] - line[0])))
    straight = chord > 0.985 * length[-1]
    number = 2 if straight else int(rng.integers(7, 11))
    if straight and length[-1] > 0.2:
        number = 3
    at = np.linspace(0, length[-1], number)
    return np.stack([np.interp(at, length, line[:, a]) for a in (0, 1)], 1)


def _smooth(points: Array, hand: Hand, rng: np.random.Generator) -> Array:
    """A soft curve near the points, a little off each."""
    reach = min(1.0, float(np.ptp(points, axis=0).max()) / 0.15)
    loose = points + rng.normal(0, hand.wobble * (0.4 + 0.6 * reach), points.shape)
    for _ in range(3):  # Chaikin's corner cutting, ends kept
        near, far = 0.75 * loose[:-1] + 0.25 * loose[1:], 0.25 * loose[:-1] + 0.75 * loose[1:]
        inner = np.stack((near, far), 1).reshape(-1, 2)
        loose = np.vstack((loose[:1], inner, loose[-1:]))
    return loose


def _ends(path: Array, hand: Hand, rng: np.random.Generator) -> Array:
    """Let both ends run on or stop short."""
    path = path.copy()
    for end, inner in ((0, 1), (-1, -2)):
        way = path[end] - path[inner]
        way = way / max(float(np.hypot(*way)), 1e-9)
        path[end] = path[end] + way * rng.normal(0.004, hand.overshoot)
    return path
