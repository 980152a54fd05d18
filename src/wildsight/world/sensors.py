"""The same scene through other sensors, their noise, and the ways in which they fail.

Every sensor is a function of the scene, the frame rendered from it and a generator; raw units are metres,
degrees Celsius and signed changes of log brightness. `sense` scales them to [0, 1] for a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError
from wildsight.world.materials import Single, single
from wildsight.world.render import Frame, render
from wildsight.world.scene import MATERIALS, Scene, check_seed

FAILURES = ("night", "fog", "overexposure")
REACH = 12.0  # metres of depth or range that fill the scale
COLDEST, HOTTEST = -10.0, 90.0  # degrees Celsius at the ends of the scale
_AIR, _SKY = 20.0, -8.0
_STEP = 0.12  # change of log brightness that makes an event
_BEAMS = 20  # LiDAR rows over the picture's height


@dataclass(frozen=True)
class Readings:
    """What sensors read: ``inputs`` name -> float32 [S, S, C] in [0, 1], the ``frame`` behind them."""

    inputs: dict[str, Single]
    frame: Frame


def depth_metres(frame: Frame, rng: np.random.Generator, noise: float = 0.004) -> Single:
    """Depth [S, S] in metres, 0 where there is none; noise grows with the square of the depth."""
    solid = np.isfinite(frame.depth)
    depth = np.where(solid, frame.depth, 0.0)
    noisy: Single = (depth + noise * depth**2 * rng.normal(size=depth.shape)).astype(np.float32)
    return np.where(solid, np.maximum(noisy, 0), 0).astype(np.float32)


def temperatures(scene: Scene, frame: Frame, rng: np.random.Generator, noise: float = 0.8) -> Single:
    """Degrees Celsius [S, S]: each thing its material's, the floor warmed by hot and cooled by wet things
    nearby."""
    table = np.array([MATERIALS[t.material] for t in scene.things] + [_AIR])
    heat = np.where(np.isfinite(frame.depth), table[frame.instance], _SKY)
    floor = (frame.instance < 0) & np.isfinite(frame.depth)
    heat[floor] += _nearby(scene, frame, floor)
    return (heat + rng.normal(0, noise, heat.shape)).astype(np.float32)


def _nearby(scene: Scene, frame: Frame, floor: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    size, camera = len(frame.depth), scene.camera
    rows, columns = np.nonzero(floor)
    depth = frame.depth[rows, columns]
    x = camera.x + depth * ((columns + 0.5) / size - 0.5) / camera.focal
    down = depth * ((rows + 0.5) / size - 0.5) / camera.focal
    y = camera.y + depth * np.cos(camera.pitch) - down * np.sin(camera.pitch)
    change = np.zeros(len(depth))
    for thing in scene.things:
        gap = np.maximum(np.hypot(x - thing.x, y - thing.y) - 0.8 * thing.reach, 0) / thing.unit
        change += 0.35 * (MATERIALS[thing.material] - _AIR) * np.exp(-5 * gap)
    return change


def events(scene: Scene, frame: Frame, rng: np.random.Generator, noise: float = 0.01) -> Single:
    """Events [S, S, 2], 1 where brightness rose or fell while the camera, or one thing, moved a little."""
    size = len(frame.depth)
    later = render(_moved(scene, rng), size).rgb
    before, after = (np.log(picture.mean(2) / 255 + 0.06) for picture in (frame.rgb, later))
    change = after - before
    stray = rng.random((2, *change.shape)) < noise
    return np.stack(((change > _STEP) | stray[0], (change < -_STEP) | stray[1]), -1).astype(np.float32)


def _moved(scene: Scene, rng: np.random.Generator) -> Scene:
    aside = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.05, 0.09))
    if not scene.things or rng.random() < 0.6:
        return replace(scene, camera=replace(scene.camera, x=scene.camera.x + aside))
    index = int(rng.integers(len(scene.things)))
    things = list(scene.things)
    things[index] = replace(things[index], x=things[index].x + 1.6 * aside)
    return replace(scene, things=tuple(things))


def lidar(frame: Frame, rng: np.random.Generator, noise: float = 0.02, dropout: float = 0.1) -> Single:
    """Ranges [S, S] in metres along the ray at the sparse pixels that a scanner hits, 0 elsewhere."""
    size = len(frame.depth)
    rows = np.unique(((np.arange(_BEAMS) + rng.random()) / _BEAMS * size).astype(int))
    hit = np.zeros((size, size), bool)
    hit[rows, int(rng.integers(2)) :: 2] = True
    hit &= np.isfinite(frame.distance) & (rng.random((size, size)) > dropout)
    ranges = np.where(hit, frame.distance, 0.0) + np.where(hit, rng.normal(0, noise, (size, size)), 0)
    return np.maximum(ranges, 0).astype(np.float32)


def _rgb(_scene: Scene, frame: Frame, rng: np.random.Generator) -> Single:
    return (frame.rgb / np.float32(255) + rng.normal(0, 0.012, frame.rgb.shape)).astype(np.float32)


def _depth(_scene: Scene, frame: Frame, rng: np.random.Generator) -> Single:
    return depth_metres(frame, rng)[..., None] / np.float32(REACH)


def _thermal(scene: Scene, frame: Frame, rng: np.random.Generator) -> Single:
    return (temperatures(scene, frame, rng)[..., None] - np.float32(COLDEST)) / np.float32(HOTTEST - COLDEST)


def _lidar(_scene: Scene, frame: Frame, rng: np.random.Generator) -> Single:
    return lidar(frame, rng)[..., None] / np.float32(REACH)


SENSORS: dict[str, Callable[[Scene, Frame, np.random.Generator], Single]] = {
    "rgb": _rgb, "depth": _depth, "thermal": _thermal, "event": events, "lidar": _lidar,
}  # fmt: skip


def check_sensors(names: Sequence[str], failure: str | None) -> None:
    """Raise a `ConfigError` for an unknown sensor, no sensor, or an unknown failure."""
    unknown = [n for n in names if n not in SENSORS]
    if unknown or not names or len(set(names)) < len(names):
        what = f"unknown sensor {unknown[0]!r}" if unknown else "no sensor, or one named twice"
        raise ConfigError(what, where="names", hint=f"choose from {', '.join(SENSORS)}")
    allowed = (*FAILURES, *(f"dead:{n}" for n in names))
    if failure is not None and failure not in allowed:
        raise ConfigError(
            f"unknown failure {failure!r}", where="failure", hint=f"choose from {', '.join(allowed)}"
        )


def sense(
    scene: Scene,
    size: int = 64,
    *,
    names: Sequence[str] = tuple(SENSORS),
    failure: str | None = None,
    seed: int = 0,
) -> Readings:
    """Read a scene with several sensors at once; all are aligned to the same pixels.

    Args:
        scene: what they look at.
        size: side in pixels, 16 to 1024.
        names: of `SENSORS`: rgb 3 channels, depth 1, thermal 1, event 2 (brighter, darker), lidar 1.
        failure: None, one of `FAILURES`, or ``dead:NAME`` for a sensor that reads zero.
        seed: fixes the noise.

    Raises:
        ConfigError: an unknown sensor or failure, or a size outside its range.
    """
    check_sensors(names, failure)
    check_seed(seed)
    frame = render(scene, size)
    inputs: dict[str, Single] = {}
    for name in names:
        rng = np.random.default_rng((scene.seed, seed, 7, list(SENSORS).index(name)))
        reading = SENSORS[name](scene, frame, rng)
        if failure in FAILURES:
            reading = single(_spoiled(name, reading, scene, frame, failure, rng))
        inputs[name] = np.clip(reading, 0, 1).astype(np.float32)
        if failure == f"dead:{name}":
            inputs[name] = np.zeros_like(inputs[name])
    return Readings(inputs, frame)


def _spoiled(
    name: str, reading: Single, scene: Scene, frame: Frame, failure: str, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """A reading under night, fog or overexposure; what a sensor does not feel, it does not show."""
    shape = reading.shape
    if failure == "night" and name == "rgb":
        hot = np.array([t.material == "hot" for t in scene.things] + [False])[frame.instance]
        return reading * np.where(hot, 0.7, 0.09)[..., None] + rng.normal(0.0, 0.035, shape)
    if failure == "night" and name == "event":
        return np.where(rng.random(shape) < 0.75, 0.0, reading) + (rng.random(shape) < 0.04)
    if failure == "overexposure" and name == "rgb":
        return np.clip(reading * 3.2 + 0.25, 0, 1) + rng.normal(0.0, 0.01, shape)
    if failure == "fog":
        return _fogged(name, reading, frame, rng)
    return reading


def _fogged(name: str, reading: Single, frame: Frame, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape, clear = reading.shape, np.exp(-np.minimum(frame.distance, 60.0) / 1.7)[..., None]
    if name == "rgb":
        return 0.78 + (reading - 0.78) * clear + rng.normal(0.0, 0.012, shape)
    if name == "event":
        return reading * (rng.random(shape) < 0.3 + clear)
    if name == "lidar":
        hit = reading > 0
        lost = rng.random(shape) > 0.35 + clear
        near = np.where(rng.random(shape) < 0.15, rng.uniform(0.02, 0.12, shape), 0.0)
        return np.where(hit & lost, near, reading)
    if name == "depth":
        return reading * (1 + 0.12 * (1 - clear) * rng.normal(size=shape))
    return reading
