"""Rendered scenes with their labels, made once and kept in the cache: what nano-clip and its kin learn from.

Sixteen of the 64 (material, shape) pairs never occur here: `held_out` names them, so that a checkpoint
taught by these scenes can be asked for compositions that it has never seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wildsight.errors import ConfigError
from wildsight.files import atomic_path, cache_folder, digest_of
from wildsight.world.asking import all_questions
from wildsight.world.language import caption
from wildsight.world.render import render
from wildsight.world.scene import COLOURS, MATERIALS, SHAPES, SIZES, Scene, Thing, random_scene

MOST = 6  # things in a scene
NAMES: tuple[tuple[str, ...], ...] = (SHAPES, tuple(COLOURS), tuple(MATERIALS), tuple(SIZES))
TRAIN, TEST = 1_000_000, 9_000_000  # first seeds of the two disjoint ranges
_PART = 500  # scenes in a file


def held_out(material: str, shape: str) -> bool:
    """Whether the pair is one of the sixteen that training never shows (two shapes of each material).

    >>> sum(held_out(m, s) for m in MATERIALS for s in SHAPES)
    16
    """
    return (NAMES[2].index(material) + SHAPES.index(shape)) % 4 == 1


def _allowed(thing: Thing) -> Thing:
    """The thing itself, or, where its pair is held out, with the next material that is allowed."""
    names = NAMES[2]
    while held_out(thing.material, thing.shape):
        thing = replace(thing, material=names[(names.index(thing.material) + 1) % len(names)])
    return thing


def nano_scene(seed: int, *, count: int | None = None) -> Scene:
    """A scene of 1 to 6 things, none of a held-out pair, through lenses of 0.7 to 1.8 picture sides."""
    scene = random_scene(seed, count=count, focal=(0.7, 1.8))
    return replace(scene, things=tuple(_allowed(t) for t in scene.things))


@cache
def world_print() -> str:
    """What a few scenes look like and are described by, as one hash: caches of another world do not fit."""
    told = []
    for seed in range(TRAIN, TRAIN + 4):
        scene = nano_scene(seed)
        shown = sha256(render(scene, 32).rgb.tobytes()).hexdigest()
        told += [
            shown,
            *(caption(scene, level) for level in (1, 2, 3)),
            *(q.text for q in all_questions(scene)),
        ]
    return digest_of(told)


@dataclass(frozen=True)
class SceneCache:
    """Rendered scenes; row i is ``nano_scene(first + i)``.

    Attributes:
        pictures: parts of uint8 [n, S, S, 3].
        instances: parts of uint8 [n, S, S]: number of the thing, 255 where there is none.
        things: uint8 [N, 6, 4]: 1 + index into `NAMES` of shape, colour, material and size; 0 for no thing.
        places: float32 [N, 6, 4]: left, top, right, bottom of what is seen, pixels; zeros if unseen.
        seen: int32 [N, 6]: visible pixels.
        first: seed of row 0.
    """

    pictures: tuple[npt.NDArray[np.uint8], ...]
    instances: tuple[npt.NDArray[np.uint8], ...]
    things: npt.NDArray[np.uint8]
    places: npt.NDArray[np.float32]
    seen: npt.NDArray[np.int32]
    first: int

    def __len__(self) -> int:
        return len(self.things)

    def take(self, rows: Sequence[int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Pictures and instance maps of some rows."""
        where = [divmod(int(row), _PART) for row in rows]
        return (
            np.stack([self.pictures[part][at] for part, at in where]),
            np.stack([self.instances[part][at] for part, at in where]),
        )


def cached_scenes(count: int, size: int = 96, *, first: int = TRAIN) -> SceneCache:
    """``count`` scenes, rendered where the cache lacks them; a killed call goes on where it was.

    Raises:
        ConfigError: a count below 1.
    """
    if count < 1:
        raise ConfigError(f"{count} scenes", where="count", hint="give at least 1")
    parts = [_part(first + start, size, min(_PART, count - start)) for start in range(0, count, _PART)]
    things, places, seen = (np.concatenate([np.load(p[k]) for p in parts]) for k in (2, 3, 4))
    pictures, maps = (tuple(np.load(p[k], mmap_mode="r") for p in parts) for k in (0, 1))
    return SceneCache(pictures, maps, things, places, seen, first)


def _part(first: int, size: int, count: int) -> list[Path]:
    """Files of one part, in the order of `SceneCache`; the last written says that it is whole."""
    key = digest_of(["scenes", world_print(), first, size, count])[:24]
    folder = cache_folder("pretrain", "scenes")
    files = [folder / f"{key}-{name}.npy" for name in ("pictures", "instances", "things", "places", "seen")]
    if not files[-1].is_file():
        arrays = _render(first, size, count)
        for file, array in zip(files, arrays, strict=True):
            with atomic_path(file) as temporary:
                np.save(temporary, array)
    return files


def _render(first: int, size: int, count: int) -> tuple[npt.NDArray[np.generic], ...]:
    pictures = np.zeros((count, size, size, 3), np.uint8)
    maps = np.full((count, size, size), 255, np.uint8)
    things, places = np.zeros((count, MOST, 4), np.uint8), np.zeros((count, MOST, 4), np.float32)
    seen = np.zeros((count, MOST), np.int32)
    for row in range(count):
        scene = nano_scene(first + row)
        frame = render(scene, size)
        pictures[row], maps[row] = frame.rgb, np.where(frame.instance < 0, 255, frame.instance)
        for index, thing in enumerate(scene.things):
            things[row, index] = codes(thing)
            places[row, index], seen[row, index] = _outline(frame.instance == index)
    return pictures, maps, things, places, seen


def codes(thing: Thing) -> tuple[int, ...]:
    """1 + index into each of `NAMES`: shape, colour, material, size."""
    words = (thing.shape, thing.colour, thing.material, thing.size)
    return tuple(1 + names.index(word) for names, word in zip(NAMES, words, strict=True))


def _outline(mask: npt.NDArray[np.bool_]) -> tuple[tuple[float, float, float, float], int]:
    """Box (left, top, right, bottom) and area of a mask, pixels; zeros for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return (0.0, 0.0, 0.0, 0.0), 0
    return (columns[0], rows[0], columns[-1] + 1.0, rows[-1] + 1.0), int(mask.sum())
