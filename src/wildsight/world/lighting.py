"""From what rays meet to colours: sun, sky, shadows, reflections, puddles and glow. float32, [3, N]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.world.materials import Single, Spot, Surface, column, floor_colour, hue_of, single, surface
from wildsight.world.scene import Array, Scene, Thing
from wildsight.world.shapes3d import SOLIDS, blocked
from wildsight.world.sums import dotted, lengths, turned

_NIGH = 40.0  # metres of depth beyond which the floor fades into the sky


@dataclass
class Rays:
    """Rays and what they meet: ``ways`` [3, N] world directions, 1 along the optical axis; ``depth`` [N]
    metres; ``instance`` [N], -1 floor or sky; ``facing`` [3, N] unit normals; ``size``: pixels a picture's
    side has."""

    ways: Array
    depth: Array
    instance: npt.NDArray[np.int64]
    facing: Array
    size: int


def sky(ways: Single, towards: Single, warmth: float) -> Single:
    """Colour of the surroundings in unit directions [3, N]: sky with a sun above, ground below."""
    up = ways[2]
    rise = np.clip(up, 0, 1) ** np.float32(0.5)
    high, low = column(0.28, 0.47, 0.78), column(0.88 + warmth, 0.9, 0.92 - warmth)
    dome = low + rise * (high - low)
    ground = column(0.42, 0.39, 0.36) * (1 - np.float32(0.4) * np.clip(-up, 0, 1))
    share = np.clip(up * np.float32(12) + np.float32(0.5), 0, 1)
    near = np.clip(dotted(towards, ways), 0, 1)
    colours: Single = ground + share * (dome - ground) + np.float32(1.2) * near ** np.float32(60)
    return colours


def shade(scene: Scene, hits: Rays) -> tuple[Single, Single]:
    """Colours [3, N], and the share [N] of the sun that reaches each point."""
    camera, lamp = scene.camera, scene.lamp
    solid = hits.depth < _NIGH * 1.5
    points = camera.eye[:, None] + np.where(solid, hits.depth, 0.0) * hits.ways
    towards = single(lamp.towards)
    lit = _sunlit(scene, hits, points)
    view = (hits.ways / lengths(hits.ways)).astype(np.float32)
    colour = np.zeros((3, len(lit)), np.float32)
    floor = np.flatnonzero((hits.instance < 0) & solid)
    colour[:, floor] = _floor(scene, hits, points[:, floor], floor, view[:, floor], lit[floor])
    for index, thing in enumerate(scene.things):
        own = np.flatnonzero(hits.instance == index)
        if len(own):
            colour[:, own] = _thing(scene, thing, index, hits, points[:, own], own, view[:, own], lit[own])
    far = np.flatnonzero(hits.depth > _NIGH * 0.3)
    haze = single(np.clip(hits.depth[far] / (_NIGH * 1.2) - 0.25, 0, 1))
    beyond = sky(view[:, far], towards, lamp.warmth)
    colour[:, far] = np.where(solid[far], colour[:, far] + haze * (beyond - colour[:, far]), beyond)
    return colour, lit


def _sunlit(scene: Scene, hits: Rays, points: Array) -> Single:
    """1 where the sun reaches a point [3, N], 0 where a thing hides it."""
    towards = scene.lamp.towards
    lit = np.ones(points.shape[1], np.float32)
    for index, (thing, swept) in enumerate(zip(scene.things, _swept(scene, hits, points), strict=True)):
        if len(SOLIDS[thing.shape].parts) == 1:
            swept &= hits.instance != index
        near = np.flatnonzero(swept)
        if not len(near):
            continue
        to_unit = (thing.turn / thing.extent).T
        start = turned(to_unit, points[:, near] + 1e-3 * hits.facing[:, near] - thing.centre[:, None])
        lit[near[blocked(thing.shape, start, turned(to_unit, towards))]] = 0
    return lit


def _swept(scene: Scene, hits: Rays, points: Array) -> npt.NDArray[np.bool_]:
    """Which points [3, N] lie where each of K things' bounding balls is swept away from the sun: bool [K,
    N]."""
    if not scene.things:
        return np.zeros((0, points.shape[1]), np.bool_)
    towards, at = single(scene.lamp.towards), single(points)
    centres = single([thing.centre for thing in scene.things])
    extents = np.stack([t.extent for t in scene.things], 1)
    radii = single(0.51 * lengths(extents))[:, None]  # a little to spare
    along = dotted(towards, at) - turned(centres, towards)[:, None]
    own = dotted(centres.T, centres.T)[:, None]
    gap = dotted(at, at) - 2 * turned(centres, at) + own - along * along
    swept: npt.NDArray[np.bool_] = (along < radii) & (gap < radii * radii) & (hits.depth < _NIGH)
    return swept


def _light(scene: Scene, normal: Single, lit: Single, open_sky: Single | float = 1.0) -> Single:
    """Light [3, N] that falls on unit normals [3, N]."""
    lamp = scene.lamp
    sun = column(1 + lamp.warmth, 0.98, 0.92 - lamp.warmth) * np.float32(0.78 * lamp.power)
    dome = np.float32(0.36) + np.float32(0.12) * normal[2]
    fill = column(0.97, 1.0, 1.06) * (dome * open_sky)
    direct = np.clip(dotted(single(lamp.towards), normal), 0, None) * lit
    light: Single = fill + sun * direct
    return light


def _thing(
    scene: Scene,
    thing: Thing,
    index: int,
    hits: Rays,
    points: Array,
    own: npt.NDArray[np.int64],
    view: Single,
    lit: Single,
) -> Single:
    facing = hits.facing[:, own]
    normal = facing.astype(np.float32)
    at = single(turned(thing.turn.T, points - thing.centre[:, None]) / thing.unit)
    cosine = np.clip(-dotted(normal, view), 0.02, 1)
    foot = (hits.depth[own] / (scene.camera.focal * hits.size * thing.unit)).astype(np.float32)
    own_normal = single(turned(thing.turn.T, facing))
    spot = Spot(at, own_normal, cosine, foot, hue_of(thing.colour), thing.colour)
    look = surface(thing.material, spot, scene.seed, index)
    if look.bump is not None:
        normal = normal + look.bump
        normal = normal / lengths(normal)
    low = np.clip(points[2] / thing.extent[2], 0, 1).astype(np.float32)
    colour = look.albedo * _light(scene, normal, lit, np.float32(0.72) + np.float32(0.28) * low)
    return _finish(scene, look, colour, normal, view, lit)


def _finish(scene: Scene, look: Surface, colour: Single, normal: Single, view: Single, lit: Single) -> Single:
    """Add highlight, reflection and glow."""
    towards = single(scene.lamp.towards)
    back = view - 2 * dotted(view, normal) * normal
    shine = np.clip(dotted(towards, back), 0, 1) ** np.float32(look.shine)
    colour = colour + look.gloss * shine * lit
    if look.mirror is not None:
        seen = sky(back, towards, scene.lamp.warmth)
        colour = colour + look.mirror * (seen if look.tint is None else seen * look.tint)
    return colour if look.glow is None else colour + look.glow


def _floor(
    scene: Scene, hits: Rays, points: Array, own: npt.NDArray[np.int64], view: Single, lit: Single
) -> Single:
    at = points[:2].astype(np.float32)
    pixel = hits.depth[own] / (scene.camera.focal * hits.size)
    foot = (pixel / np.maximum(-view[2], 0.05)).astype(np.float32)
    colour = floor_colour(scene.floor, at, foot, scene.seed)
    open_sky, glow, puddle = _around(scene, at)
    colour *= 1 - np.float32(0.45) * puddle
    out = colour * (_light(scene, column(0, 0, 1), lit, open_sky) + glow)
    wet = np.flatnonzero(puddle > 0.01)
    if len(wet):
        back = view[:, wet] * column(1, 1, -1)
        seen = sky(back, single(scene.lamp.towards), scene.lamp.warmth)
        fresnel = np.float32(0.15) + np.float32(0.6) * (1 + view[2, wet]) ** 3
        out[:, wet] += puddle[wet] * fresnel * seen
    return out


def _around(scene: Scene, at: Single) -> tuple[Single, Single, Single]:
    """What things do to the floor [2, N] about them: share of open sky, glow [3, N], puddle."""
    open_sky = np.ones(at.shape[1], np.float32)
    glow, puddle = np.zeros((3, at.shape[1]), np.float32), np.zeros(at.shape[1], np.float32)
    for index, thing in enumerate(scene.things):
        offset = at - column(thing.x, thing.y)
        span = np.float32(1.6 * thing.reach + 0.3)
        near = np.flatnonzero((np.abs(offset) < span).all(0))
        if not len(near):
            continue
        own = turned(single(thing.turn[:2, :2].T), offset[:, near])
        half = single(thing.extent[:2, None] / 2)
        round_off = np.float32(0.7) * half.min()
        beyond = np.maximum(np.abs(own) - half + round_off, 0)
        gap = np.clip(np.hypot(beyond[0], beyond[1]) - round_off, 0, None) / np.float32(thing.unit)
        open_sky[near] *= 1 - np.float32(0.5) * np.exp(-6 * gap)
        if thing.material == "hot":
            glow[:, near] += (hue_of(thing.colour)[:, None] + 0.15) * (np.float32(1.1) * np.exp(-5 * gap))
        elif thing.material == "wet":
            rng = np.random.default_rng((scene.seed, 3, index))
            wave = np.cos(3 * np.arctan2(own[1], own[0]) + np.float32(rng.uniform(0, 6)))
            edge = np.float32(0.22) + np.float32(0.07) * wave
            puddle[near] = np.maximum(puddle[near], np.clip((edge - gap) * 14, 0, 1))
    return open_sky, glow, puddle
