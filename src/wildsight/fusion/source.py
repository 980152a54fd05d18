"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from wildsight.errors import DataError
from wildsight.fusion.datasets import READERS, FusionData, Problem, check, protocol, read
from wildsight.fusion.layouts import FusionSample, Indexed, Split
from wildsight.fusion.scenes import three
from wildsight.sources import parse_source

SENSORS = ("rgb", "depth", "thermal", "event", "lidar")
SIZE = 64
TRAIN = {"": 120, "night": 30, "fog": 30, "overexposure": 30}
TEST = {"": 50, "night": 50, "fog": 50, "overexposure": 50}
CLEAR = "clear"
DARK = np.zeros((8, 8, 3), np.float32)


def read_source(text: str | Path) -> FusionData:
    """The data behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    source = parse_source(text, READERS)
    return world() if source.path is None else read(source.reader, source.path)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before any training starts; imports no torch."""
    return check(read_source(text))


@lru_cache(maxsize=2)
def world(size: int = SIZE, scale: float = 1.0) -> FusionData:
    """The embedded world seen by five sensors, clear and under its failures; drawn on first use.

    Args:
        size: side of the pictures, pixels.
        scale: share of the usual number of scenes.
    """
    samples: list[FusionSample] = []
    classes: tuple[str, ...] = ()
    for split, counts, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        for condition, count in counts.items():
            many = max(2, round(count * scale))
            drawn = seed if split == "test" else 100 + len(condition)
            part, classes = _scenes(split, condition, many, drawn, size)
            samples += part
    found = Indexed(tuple(samples), SENSORS, classes)
    rule = "train: clear, night, fog, overexposure as 4:1:1:1; test: the same scenes under each"
    return FusionData("world", None, found, protocol(found, rule))


def _scenes(
    split: Split | str, condition: str, count: int, seed: int, size: int
) -> tuple[list[FusionSample], tuple[str, ...]]:
    from wildsight.world.sets import modalities

    drawn = modalities(seed=seed, size=size, count=count, names=SENSORS, failure=condition or None)
    names = condition or CLEAR
    part: Split = "train" if split == "train" else "test"
    samples = [
        FusionSample(
            f"{part}/{names}/{i:04d}",
            {name: three(drawn.inputs[name][i]) for name in SENSORS},
            np.asarray(drawn.masks[i], np.int64),
            part,
            (names,),
        )
        for i in range(count)
    ]
    return samples, tuple(drawn.classes)


def without(data: FusionData, name: str, dead: bool = False) -> FusionData:
    """A set as if one modality were missing in every scene, or ``dead``: there, but reading zero.

    Raises:
        DataError: the set has no such modality.
    """
    if name not in data.modalities:
        hint = f"choose from {', '.join(data.modalities)}"
        raise DataError(f"no modality is called {name!r}", where=data.root, hint=hint)

    def changed(sample: FusionSample) -> FusionSample:
        pictures = {n: p for n, p in sample.pictures.items() if n != name}
        if dead:
            pictures[name] = DARK
        label = f"{'dead' if dead else 'missing'}:{name}"
        return replace(sample, name=f"{sample.name} {label}", pictures=pictures)

    samples = tuple(changed(s) for s in data.found.samples)
    return replace(data, found=replace(data.found, samples=samples))


__all__ = ["check_source", "read_source", "without", "world"]
