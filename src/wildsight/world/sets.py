"""A data set for every task, each by one function, all of it fixed by the seed.

Pictures are uint8 [N, S, S, 3]. Splits never share a picture, and the numbers in a picture's seed are the
set's seed, the split and its place, so that asking for more pictures keeps those that were there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wildsight.world.asking import KINDS, Examiner, Question
from wildsight.world.common import Names, Pictures, check, pictures
from wildsight.world.drawing import sketch
from wildsight.world.labels import Box3D, saliency
from wildsight.world.materials import Single
from wildsight.world.places import GroundingSet, OutlineSet, grounding, outlines
from wildsight.world.portraits import number_of, portrait
from wildsight.world.ranges import whole, within
from wildsight.world.scene import MATERIALS, SHAPES, Scene, random_scene
from wildsight.world.sensors import SENSORS, check_sensors, sense
from wildsight.world.shapes3d import SOLIDS
from wildsight.world.tasks import TaskSet, tasks

__all__ = [
    "Box3D", "CategorySet", "GroundingSet", "ModalitySet", "OutlineSet", "PairSet", "QuestionSet",
    "SketchSet", "TaskSet", "categories", "compositions", "grounding", "held_out_pairs", "modalities",
    "outlines", "questions", "sketches", "tasks",
]  # fmt: skip
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class PairSet:
    """``images`` [N, S, S, 3]; ``attributes`` and ``objects``: N material and shape names."""

    images: Pictures
    attributes: Names
    objects: Names


@dataclass(frozen=True)
class SketchSet:
    """``photos`` [P, S, S, 3] and ``sketches`` [K, S, S, 3], black on white, each with its class names."""

    photos: Pictures
    photo_labels: Names
    sketches: Pictures
    sketch_labels: Names


@dataclass(frozen=True)
class CategorySet:
    """``images`` [N, S, S, 3], ``labels`` N true class names, ``labelled`` bool [N]: which are labelled;
    ``known`` the classes that have labelled pictures."""

    images: Pictures
    labels: Names
    labelled: npt.NDArray[np.bool_]
    known: Names


@dataclass(frozen=True)
class QuestionSet:
    """``images`` [M, S, S, 3]; N questions: ``picture`` int64 [N] is the row of the image, ``kinds``,
    ``questions`` and one-word ``answers``."""

    images: Pictures
    picture: npt.NDArray[np.int64]
    kinds: Names
    questions: Names
    answers: Names


@dataclass(frozen=True)
class ModalitySet:
    """``inputs`` name -> float32 [N, S, S, C] in [0, 1]; ``masks`` int64 [N, S, S] class ids; ``saliency``
    bool [N, S, S]; ``classes``: the name of each id, the background first."""

    inputs: dict[str, Single]
    masks: npt.NDArray[np.int64]
    saliency: npt.NDArray[np.bool_]
    classes: Names


def held_out_pairs(seed: int, share: float) -> list[tuple[str, str]]:
    """(material, shape) pairs never in training: diagonals of the table, so that each word loses equally
    many."""
    rng = np.random.default_rng((seed, 10))
    rows, columns = rng.permutation(list(MATERIALS)), rng.permutation(SHAPES)
    cells = [(str(rows[i]), str(columns[(i + d) % 8])) for d in range(8) for i in range(8)]
    return cells[: round(share * len(cells))]


def compositions(
    *, seed: int = 0, size: int = 96, per_pair: int = 20, held_out: float = 0.25, long_tail: bool = True
) -> dict[str, PairSet]:
    """Pictures of one thing each, its material and shape named; its colour is free.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        per_pair: training pictures per seen pair, in the mean; validation and test have a quarter, at least
        2. held_out: share of the 64 pairs that training never shows, 0.02 to 0.75; half of them are in
        validation, the
            others in test, both beside all seen pairs.
        long_tail: training counts fall from about three times the mean to a few.

    Returns:
        ``train``, ``val`` and ``test``.

    Raises:
        ConfigError: a value outside its range.
    """
    check(size, seed, per_pair=per_pair)
    within(held_out, "held_out", 0.02, 0.75)
    unseen = held_out_pairs(seed, held_out)
    seen = [(m, s) for m in MATERIALS for s in SHAPES if (m, s) not in unseen]
    order = np.random.default_rng((seed, 11)).permutation(len(seen))
    tail = 3.3 * per_pair * np.exp(-3.0 * order / len(seen)) if long_tail else np.full(len(seen), per_pair)
    few = max(2, per_pair // 4)
    plans = {
        "train": list(zip(seen, np.maximum(1, tail.round()).astype(int).tolist(), strict=True)),
        "val": [(pair, few) for pair in (*seen, *unseen[::2])],
        "test": [(pair, few) for pair in (*seen, *unseen[1::2])],
    }
    return {split: _pairs(plan, size, (seed, number)) for number, (split, plan) in enumerate(plans.items())}


def _pairs(plan: list[tuple[tuple[str, str], int]], size: int, key: tuple[int, int]) -> PairSet:
    cells = [pair for pair, count in plan for _ in range(count)]
    places = [place for _, count in plan for place in range(count)]
    shapes, materials = tuple(SOLIDS), tuple(MATERIALS)
    scenes = [
        portrait(number_of(*key, materials.index(m), shapes.index(s), place), shape=s, material=m)
        for (m, s), place in zip(cells, places, strict=True)
    ]
    return PairSet(pictures(scenes, size), tuple(m for m, _ in cells), tuple(s for _, s in cells))


def sketches(*, seed: int = 0, size: int = 96, per_class: int = 20, unseen: int = 5) -> dict[str, SketchSet]:
    """Photos and hand drawings of the world's twenty solids, the splits sharing no class.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        per_class: photos, and as many sketches, of each class.
        unseen: classes in test, 2 to 14; validation has 3, training the others.

    Returns:
        ``train``, ``val`` and ``test``.

    Raises:
        ConfigError: a value outside its range.
    """
    check(size, seed, per_class=per_class)
    whole(unseen, "unseen", 2, 14)
    classes = [str(c) for c in np.random.default_rng((seed, 12)).permutation(list(SOLIDS))]
    parts = dict(
        zip(_SPLITS, (classes[unseen + 3 :], classes[unseen : unseen + 3], classes[:unseen]), strict=True)
    )
    return {split: _drawn(sorted(names), per_class, size, (seed, 20)) for split, names in parts.items()}


def _drawn(classes: list[str], per_class: int, size: int, key: tuple[int, int]) -> SketchSet:
    labels = tuple(c for c in classes for _ in range(per_class))
    places = [(tuple(SOLIDS).index(c), i) for c in classes for i in range(per_class)]
    photos = [portrait(number_of(*key, 0, *p), shape=c) for c, p in zip(labels, places, strict=True)]
    drawn = [
        sketch(portrait(number_of(*key, 1, *p), shape=c, pitch=(0.15, 0.55)), size)
        for c, p in zip(labels, places, strict=True)
    ]
    return SketchSet(pictures(photos, size), labels, np.stack(drawn), labels)


def categories(
    *, seed: int = 0, size: int = 96, per_class: int = 50, known: float = 0.5, classes: int = 12
) -> CategorySet:
    """A folder to be sorted: each class is a material on a shape ("wet cube"), some share a word, colour is
    free.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        per_class: pictures of each class.
        known: share of classes that are known, 0.1 to 0.9; half of a known class is labelled.
        classes: how many there are, 2 to 64.

    Raises:
        ConfigError: a value outside its range.
    """
    check(size, seed, per_class=per_class)
    within(known, "known", 0.1, 0.9)
    whole(classes, "classes", 2, 64)
    pairs = held_out_pairs(seed + 1, 1.0)[:classes]
    table = _pairs([(pair, per_class) for pair in pairs], size, (seed, 30))
    labels = tuple(f"{m} {s}" for m, s in zip(table.attributes, table.objects, strict=True))
    order = np.random.default_rng((seed, 31)).permutation(classes)
    old = sorted(order[: min(classes - 1, max(1, round(known * classes)))].tolist())
    place = np.tile(np.arange(per_class), classes)
    labelled = np.isin(np.repeat(np.arange(classes), per_class), old) & (place < max(1, per_class // 2))
    return CategorySet(table.images, labels, labelled, tuple(" ".join(pairs[i]) for i in old))


def modalities(
    *,
    seed: int = 0,
    size: int = 96,
    count: int = 100,
    names: Sequence[str] = tuple(SENSORS),
    failure: str | None = None,
) -> ModalitySet:
    """Scenes of one to six things through several sensors; the class of a pixel is the thing's shape.

    The scene, mask and noise of a picture do not depend on ``failure``: what changes is the failing sensor
    alone.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        count: how many scenes.
        names: of `SENSORS`.
        failure: None, ``night``, ``fog``, ``overexposure`` or ``dead:NAME``.

    Raises:
        ConfigError: an unknown sensor or failure, or a value outside its range.
    """
    check(size, seed, count=count)
    return sensed(range(count), seed=seed, size=size, names=names, failure=failure)


def sensed(
    places: Sequence[int],
    *,
    seed: int = 0,
    size: int = 96,
    names: Sequence[str] = tuple(SENSORS),
    failure: str | None = None,
) -> ModalitySet:
    """Rows ``places`` of what `modalities` makes."""
    check_sensors(names, failure)
    inputs: dict[str, list[Single]] = {name: [] for name in names}
    masks, salient = [], []
    for place in places:
        scene = random_scene(number_of(seed, 40, place), count=None)
        readings = sense(scene, size, names=names, failure=failure)
        for name, reading in readings.inputs.items():
            inputs[name].append(reading)
        table = np.array([SHAPES.index(t.shape) + 1 for t in scene.things] + [0])
        masks.append(table[readings.frame.instance])
        salient.append(saliency(scene, readings.frame))
    stacked = {name: np.stack(list_) for name, list_ in inputs.items()}
    return ModalitySet(stacked, np.stack(masks), np.stack(salient), ("background", *SHAPES))


def questions(
    *, seed: int = 0, size: int = 96, count: int = 1000, kinds: Sequence[str] = KINDS, per_picture: int = 5
) -> QuestionSet:
    """Questions with exact one-word answers; the kinds are equally frequent, their answers balanced.

    Args:
        seed: 0 or more.
        size: side in pixels, 32 to 1024.
        count: how many questions.
        kinds: of `KINDS`.
        per_picture: questions about one picture, at most.

    Raises:
        ConfigError: an unknown kind, or a value outside its range.
    """
    check(size, seed, count=count, per_picture=per_picture)
    examiner = Examiner(kinds, seed=seed)
    scenes: list[Scene] = []
    picture: list[int] = []
    asked: list[Question] = []
    while len(asked) < count:
        scene = random_scene(number_of(seed, 50, len(scenes)), count=None)
        found = examiner.ask(scene, min(per_picture, count - len(asked)))
        picture += [len(scenes)] * len(found)
        asked += found
        scenes.append(scene)
    kinds_, texts, answers = zip(*((q.kind, q.text, q.answer) for q in asked), strict=True)
    return QuestionSet(pictures(scenes, size), np.array(picture), kinds_, texts, answers)
