"""From a source string to the task's data: the embedded world, a benchmark on disk, a plain folder."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from wildsight.sources import parse_source
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera
from wildsight.spatial.datasets import READERS, Problem, check, read
from wildsight.spatial.samples import SpatialData, SpatialSample, Split, protocol

SIZE = 96
TRAIN, TEST = 400, 100
FOCAL = (1.0, 1.2)  # focal lengths of the training pictures, in picture sides
FACTORS = (0.6, 1.0, 1.6, 2.5)
MOST, SCALES = 4, (1.0, 1.6)  # things in a picture, and their sizes in multiples of a shape's own
REFUSALS = 5  # one question in so many is about something that is not there


def read_source(text: str | Path) -> SpatialData:
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
    source = parse_source(text, READERS)
    return [] if source.path is None else check(source.reader, source.path)


@lru_cache(maxsize=4)
def world(
    train: int = TRAIN,
    test: int = TEST,
    size: int = SIZE,
    seed: int = 0,
    factors: tuple[float, ...] = FACTORS,
    focal: tuple[float, float] = FOCAL,
    several: bool = False,
    all_named: bool = False,
    most: int = MOST,
    scales: tuple[float, float] = SCALES,
) -> SpatialData:
    """The embedded world before level cameras: one range of focal lengths to learn from, others for the test.

    Args:
        train: training pictures.
        test: test pictures for each factor.
        size: side, pixels.
        seed: 0 or more.
        factors: the test's focal lengths over the training's.
        focal: the training's range, in picture sides.
        several: ask for "all objects" too, once in every other picture.
        most: things in a picture, 1 to 4.
        scales: range of their sizes in multiples of a shape's own.
        all_named: in training ask for every other thing too whose shape is the only one of its kind.
    """
    things = (most, scales)
    samples = list(_drawn("train", train, size, 2 * seed, focal, "x1", *things))
    if all_named:
        samples += [more for sample in samples for more in _named_others(sample)]
    for factor in factors:
        low, high = (min(max(v * factor, 0.6), 3.0) for v in focal)
        samples += _drawn("test", test, size, 2 * seed + 1, (low, high), f"x{factor:g}", *things)
    samples = with_refusals(samples, seed)
    if several:
        samples += [_everything(s) for s in samples[::2] if s.targets]
    rule = (
        f"training focal lengths {focal[0]:g} to {focal[1]:g} picture sides; test groups are factors of "
        f"them; 1 to {most} things of {scales[0]:g} to {scales[1]:g} times their own size"
    )
    return SpatialData("world", None, tuple(samples), protocol(samples, rule))


def _drawn(
    split: Split,
    count: int,
    size: int,
    seed: int,
    focal: tuple[float, float],
    group: str,
    most: int,
    scales: tuple[float, float],
) -> list[SpatialSample]:
    from wildsight.world.sets import grounding

    if count < 1:
        return []
    made = grounding(seed=seed, size=size, count=count, focal=focal, most=most, scales=scales)
    samples = []
    for row, (image, boxes) in enumerate(zip(made.images, made.boxes, strict=True)):
        camera = Camera.from_matrix(made.intrinsics[row], size, size, "calibration")
        own = [Box.upright(list(b.centre), list(b.size), b.yaw, b.name) for b in boxes]
        name = f"{split}/{group}/{seed}/{row:05d}"
        text = made.expressions[row]
        samples.append(SpatialSample(name, image, camera, text, (own[0],), tuple(own[1:]), split, group))
    return samples


def with_refusals(samples: list[SpatialSample], seed: int, every: int = REFUSALS) -> list[SpatialSample]:
    """For one picture in ``every``, a second question: an expression whose shape that picture does not
    have."""
    rng = np.random.default_rng((seed, 11))
    out = list(samples)
    for place in range(0, len(samples), every):
        sample = samples[place]
        there = {b.name for b in (*sample.targets, *sample.others)}
        strange = [s for s in samples if s.split == sample.split and not there & _named(s)]
        if strange:
            text = strange[int(rng.integers(len(strange)))].expression
            others = (*sample.targets, *sample.others)
            out.append(replace(sample, name=f"{sample.name}#no", expression=text, targets=(), others=others))
    return out


def _named_others(sample: SpatialSample) -> list[SpatialSample]:
    """A question for each other thing that is the only one of its shape and whose middle is in sight."""
    boxes = (*sample.targets, *sample.others)
    found = []
    for place, box in enumerate(sample.others, start=1):
        x, y = sample.camera.matrix[:2] @ (box.centre / box.centre[2])
        seen = 0 < x < sample.camera.width and 0 < y < sample.camera.height
        if seen and sum(b.name == box.name for b in boxes) == 1:
            rest = tuple(b for b in boxes if b is not box)
            name = f"{sample.name}#{place}"
            found.append(
                replace(sample, name=name, expression=f"the {box.name}", targets=(box,), others=rest)
            )
    return found


def _everything(sample: SpatialSample) -> SpatialSample:
    boxes = (*sample.targets, *sample.others)
    return replace(sample, name=f"{sample.name}#all", expression="objects", targets=boxes, others=())


def _named(sample: SpatialSample) -> set[str]:
    """Shapes that an expression speaks of."""
    words = set(sample.expression.split())
    return {b.name for b in (*sample.targets, *sample.others) if b.name in words} | {sample.targets[0].name}


__all__ = ["check_source", "read_source", "world"]
