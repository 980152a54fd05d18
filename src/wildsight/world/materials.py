"""What things and floors look like: solid textures evaluated at points, filtered by the pixel's footprint.

Everything here is float32: points [3, N] in, colours [3, N] in [0, 1] out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.world.hashed import noise_of_cells, rough_noise
from wildsight.world.scene import COLOURS
from wildsight.world.sums import lengths, turned

GRAIN = 0.005  # a grain's side: metres on a floor, in units of its size on a thing
Single: TypeAlias = npt.NDArray[np.float32]
Shares: TypeAlias = Single | float


def single(values: npt.ArrayLike) -> Single:
    """The values as float32."""
    return np.asarray(values, np.float32)


def column(*values: float) -> Single:
    """The values as float32 [D, 1]."""
    return np.array(values, np.float32)[:, None]


@dataclass
class Surface:
    """``albedo`` [3, N]; ``gloss`` strength and ``shine`` exponent of the highlight; ``mirror`` share of the
    surroundings reflected, tinted by ``tint``; ``glow`` light given off; ``bump`` [3, N] added to the
    normal."""

    albedo: Single
    gloss: Shares = 0.12
    shine: float = 18.0
    mirror: Shares | None = None
    tint: Single | None = None
    glow: Single | None = None
    bump: Single | None = None


@dataclass(frozen=True)
class Spot:
    """Points of one thing: ``at`` [3, N] own axes in units of its size, ``normal`` [3, N] own axes,
    ``facing`` [N] cosine to the viewer, ``foot`` [N] side of a pixel in the same unit, ``hue`` [3] and its
    name."""

    at: Single
    normal: Single
    facing: Single
    foot: Single
    hue: Single
    colour: str


def ripple(at: Single, rate: float, rng: np.random.Generator, terms: int = 6) -> Single:
    """Smooth noise about [-1, 1] at points [D, N]: a sum of waves with random directions, ``rate`` cycles a
    unit."""
    ways = rng.normal(size=(terms, len(at)))
    ways *= 2 * np.pi * rate * rng.uniform(0.6, 1.4, (terms, 1)) / lengths(ways.T)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (terms, 1)).astype(np.float32)
    waves: Single = np.cos(turned(ways.astype(np.float32), at) + phase).sum(0)
    return waves * np.float32(1.4 / np.sqrt(terms))


def grain(at: Single, rng: np.random.Generator) -> Single:
    """Rough noise about [-1, 1] at points [D, N], new every `GRAIN` of a unit."""
    shift = rng.uniform(0, 1, (len(at), 1)).astype(np.float32)
    return rough_noise(at * np.float32(1 / GRAIN) + shift, _seed(rng))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


def _ramp(value: Single, low: float, high: float) -> Single:
    t: Single = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(base: Single, other: tuple[float, float, float] | Single, share: Single) -> Single:
    top = np.asarray(other, np.float32)
    mixed: Single = base + share * ((top[:, None] if top.ndim == 1 else top) - base)
    return mixed


def _plain(spot: Spot, strength: Single | float = 1.0) -> Single:
    return spot.hue[:, None] * np.broadcast_to(np.asarray(strength, np.float32), spot.foot.shape)


def _contrast(colour: str) -> tuple[float, float, float]:
    return (0.1, 0.1, 0.12) if colour in ("white", "yellow", "cyan") else (0.96, 0.95, 0.9)


def _matte(spot: Spot, rng: np.random.Generator) -> Surface:
    return Surface(_plain(spot, 1 + 0.05 * ripple(spot.at, 2.5, rng, 4)))


def _metal(spot: Spot, rng: np.random.Generator) -> Surface:
    brushed = ripple(spot.at[2:], 9.0, rng, 5)
    tint = spot.hue * np.float32(0.8) + np.float32(0.2)
    tinted = tint[:, None] * (1 + np.float32(0.12) * brushed)
    sweep = np.sin(3 * spot.at[2] + 4 * spot.normal[0] + 2 * spot.at[0] + 1)
    return Surface(_plain(spot, 0.42 + 0.3 * sweep), 1.3, 50.0, 0.62, tinted)


def _striped(spot: Spot, _rng: np.random.Generator) -> Surface:
    rate = np.float32(3.1)
    wave = np.abs(np.mod(rate * (spot.at[2] + 0.55 * spot.at[0] + 0.35 * spot.at[1]), 1) - np.float32(0.5))
    edge = np.maximum(spot.foot * rate, 0.03)
    share = np.clip((wave - 0.26) / edge + 0.5, 0, 1)
    return Surface(_mix(_plain(spot), (0.07, 0.07, 0.08), share))


def _dotted(spot: Spot, _rng: np.random.Generator) -> Surface:
    across = np.abs(spot.normal).argmax(0)
    u = np.where(across == 0, spot.at[1], spot.at[0])
    v = np.where(across == 2, spot.at[1], spot.at[2])
    rate = np.float32(4.2)
    row = np.floor(v * rate)
    du = np.mod(u * rate + 0.5 * np.mod(row, 2), 1) - np.float32(0.5)
    dv = np.mod(v * rate, 1) - np.float32(0.5)
    edge = np.maximum(spot.foot * rate, 0.05)
    share = np.clip((np.float32(0.3) - np.hypot(du, dv)) / edge + 0.5, 0, 1)
    return Surface(_mix(_plain(spot), _contrast(spot.colour), share), 0.2, 30.0)


def _wet(spot: Spot, rng: np.random.Generator) -> Surface:
    runs = _ramp(ripple(spot.at * column(1, 1, 0.3), 4.0, rng, 5), 0.2, 0.8)
    fresnel = np.float32(0.12) + np.float32(0.6) * (1 - spot.facing) ** 3
    bump = np.float32(0.16) * np.stack([ripple(spot.at, 5.0, rng, 4) for _ in range(3)])
    return Surface(_plain(spot, 0.6 + 0.16 * runs), 1.6, 80.0, fresnel + 0.1 * runs, None, None, bump)


def _rusty(spot: Spot, rng: np.random.Generator) -> Surface:
    blotch = np.float32(0.8) * ripple(spot.at, 2.1, rng, 8) + np.float32(0.5) * ripple(spot.at, 5.5, rng, 5)
    rough = grain(spot.at, rng)
    share = _ramp(blotch + 0.25 * rough + 0.1, -0.25, 0.25)
    fresh, old = column(0.42, 0.18, 0.06), column(0.17, 0.08, 0.04)
    rust = fresh + _ramp(-blotch, -1.2, 0.0) * (old - fresh)
    colour = _mix(_plain(spot, 0.85), rust * (1 + np.float32(0.3) * rough), share)
    return Surface(colour, 0.05)


def _mossy(spot: Spot, rng: np.random.Generator) -> Surface:
    tuft = np.float32(0.8) * ripple(spot.at, 2.6, rng, 8) + np.float32(0.5) * ripple(spot.at, 7.0, rng, 5)
    rough = grain(spot.at, rng)
    share = _ramp(tuft + np.float32(1.2) * spot.normal[2] - 0.15 + 0.3 * rough, -0.2, 0.3)
    light = (1 + np.float32(0.4) * rough) * (np.float32(0.9) + np.float32(0.25) * tuft)
    moss = column(0.3, 0.36, 0.07) * light
    return Surface(_mix(_plain(spot, 0.85), moss, share), 0.03)


def _hot(spot: Spot, rng: np.random.Generator) -> Surface:
    embers = ripple(spot.at, 2.0, rng)
    core = np.clip(spot.facing, 0, 1) ** 2 * (np.float32(0.6) + np.float32(0.2) * embers)
    glow = _mix(_plain(spot, 1.05), (1.0, 0.93, 0.7), np.clip(core, 0, 0.8))
    return Surface(_plain(spot, 0.1), 0.0, 10.0, glow=glow)


LOOKS: dict[str, Callable[[Spot, np.random.Generator], Surface]] = {
    "matte": _matte, "metal": _metal, "striped": _striped, "dotted": _dotted,
    "wet": _wet, "rusty": _rusty, "mossy": _mossy, "hot": _hot,
}  # fmt: skip


def _lines(value: Single, foot: Single, width: float) -> Single:
    """Share of a line of ``width`` at every whole number, filtered."""
    near = np.abs(np.mod(value + np.float32(0.5), 1) - np.float32(0.5))
    soft = np.maximum(foot, 0.01)
    faded = np.minimum(1, np.float32(2 * width) / soft + np.float32(0.25))
    share: Single = np.clip((np.float32(width) - near) / soft + 0.5, 0, 1) * faded
    return share


def _planks(at: Single, foot: Single, rng: np.random.Generator) -> Single:
    u, v = at * np.float32(2.2)
    row = np.floor(u)
    plank = np.stack((row, np.floor(v * np.float32(0.28) + row * np.float32(0.37))))
    tone = 1 + np.float32(0.13) * noise_of_cells(plank, _seed(rng))
    streak = 0.07 * ripple(np.stack((u * 5, v * np.float32(0.6))), 1.0, rng, 5)
    tone = (tone + streak) * (1 - 0.45 * _lines(u, foot * 2.2, 0.02))
    return column(0.6, 0.45, 0.31) * tone


def _tiles(at: Single, foot: Single, rng: np.random.Generator) -> Single:
    u, v = at * np.float32(1.9)
    tone = 1 + np.float32(0.06) * noise_of_cells(np.floor(np.stack((u, v))), _seed(rng))
    tone += np.float32(0.03) * ripple(at, 1.5, rng, 4)
    joint = np.maximum(_lines(u, foot * 1.9, 0.03), _lines(v, foot * 1.9, 0.03))
    return column(0.66, 0.68, 0.7) * tone * (1 - np.float32(0.35) * joint)


def _checker(at: Single, foot: Single, rng: np.random.Generator) -> Single:
    u, v = at * np.float32(1.7)
    soft = np.maximum(foot * np.float32(1.7), 0.01)
    side = [np.clip((np.abs(np.mod(w, 2) - 1) - np.float32(0.5)) / soft, -0.5, 0.5) for w in (u, v)]
    tone = np.float32(0.55) + np.float32(0.5) * side[0] * side[1] + np.float32(0.02) * ripple(at, 3.0, rng, 4)
    return column(1.0, 0.98, 0.94) * tone


def _concrete(at: Single, _foot: Single, rng: np.random.Generator) -> Single:
    tone = 0.56 + 0.05 * ripple(at, 0.6, rng) + 0.025 * ripple(at, 3.0, rng) + 0.03 * grain(at, rng)
    return column(1.0, 1.0, 1.02) * tone


def _sand(at: Single, foot: Single, rng: np.random.Generator) -> Single:
    bend = ripple(at, 0.35, rng, 4)
    waves = np.sin(at[1] * np.float32(16) + bend * 5 + at[0] * np.float32(3))
    tone = 1 + 0.07 * waves * np.clip(1 - foot * 4, 0, 1) + 0.05 * grain(at, rng)
    return column(0.76, 0.65, 0.47) * tone


def _carpet(at: Single, foot: Single, rng: np.random.Generator) -> Single:
    hue = column(0.42, 0.43, 0.5) + single(rng.uniform(-0.07, 0.07, (3, 1)))
    u, v = at * np.float32(1.3)
    bands = np.maximum(_lines(u, foot * 1.3, 0.07), _lines(v, foot * 1.3, 0.07))
    return hue * single(1 + 0.1 * grain(at, rng) + 0.22 * bands)


_FLOOR_LOOKS: dict[str, Callable[[Single, Single, np.random.Generator], Single]] = {
    "planks": _planks, "tiles": _tiles, "checker": _checker,
    "concrete": _concrete, "sand": _sand, "carpet": _carpet,
}  # fmt: skip


def floor_colour(floor: str, at: Single, foot: Single, seed: int) -> Single:
    """Colour [3, N] of a floor at places [2, N] in metres seen with pixels ``foot`` [N] metres wide."""
    rng = np.random.default_rng((seed, 1))
    tint = single(rng.uniform(0.88, 1.1) * (1 + rng.uniform(-0.04, 0.04, (3, 1))))
    turn = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    placed = np.stack((c * at[0] - s * at[1], s * at[0] + c * at[1])) + single(rng.uniform(0, 9, (2, 1)))
    return _FLOOR_LOOKS[floor](placed, foot, rng) * tint


def surface(material: str, spot: Spot, seed: int, index: int) -> Surface:
    """What a thing of ``material``, the ``index``-th of its scene, looks like at points."""
    return LOOKS[material](spot, np.random.default_rng((seed, 2, index)))


def hue_of(colour: str) -> Single:
    """The paint's colour [3]."""
    return single(COLOURS[colour])
