"""Each find in two words, what is wrong and on what: the composition task on the crops.

The task is taught on the world's products (state x product, defects cut out as finds are), once a machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.composition import CompositionRecognizer
from wildsight.composition.methods import METHODS
from wildsight.datasets.lists import read_lines
from wildsight.errors import ConfigError, DataError
from wildsight.estimators import kept
from wildsight.files import atomic_folder, cache_folder, digest_of
from wildsight.images import from_array
from wildsight.training.progress import Meter
from wildsight.workflows.inspect.crops import cropped, readable
from wildsight.workflows.inspect.project import GOOD, Project
from wildsight.world.products import CATEGORIES, render_product

Pair = tuple[str, str]
TRAINING_SET: dict[str, Any] = {"per_pair": 10, "size": 96, "seed": 0, "training": {}}
"""Pictures per pair, their side in pixels, and fields of `TrainConfig`."""
VERSION = 3
STATES: dict[str | None, str] = {
    None: GOOD, "scratch": "scratch", "stain": "stain", "crack": "crack", "missing_part": "missing",
    "wrong_part": "wrong", "deformation": "deformed", "foreign_texture": "foreign",
}  # fmt: skip
"""Defect of the world -> the word that is taught for it; nano-clip has read each of them."""


def describe(
    project: Project,
    *,
    model: str = "hdaoe",
    backbone: str = "nano-conv",
    words: str | Path | None = None,
    progress: bool = True,
) -> int:
    """Say of every find what is wrong with what, as an attribute and an object with a probability.

    Args:
        project: an open project; saved.
        model: a method of the composition task, taught on the world's products, or a folder that
            ``wildsight composition fit`` wrote.
        backbone: tower of a method; a folder has its own.
        words: file with one pair a line, attribute and object; None takes the pairs that were taught. Words
            that were not taught need a backbone that reads text, such as a CLIP.
        progress: show progress and the time left.

    Returns:
        How many finds are described.

    Raises:
        DataError: nothing was found yet, or a line that is no pair.
        ConfigError: neither a method nor a folder, or new words for a backbone that reads no text.
    """
    pairs = None if words is None else read_words(Path(words))
    finds = [f for f in project.finds() if readable(project.crop(f))]
    if not finds:
        raise DataError("no find to describe", where=project.folder, hint="look at more pictures first")
    recognizer = _recognizer(model, backbone, progress)
    files = [project.crop(f) for f in finds]
    new = _new_words(recognizer, pairs, words)
    results, _ = recognizer.predict_files(files, pairs=pairs, top=1, open_vocabulary=new)
    project.words = {
        find: {
            "attribute": r.attribute,
            "object": r.object,
            "probability": r.probability,
            "known": r.known,
            "by": recognizer.settings.method,
        }
        for find, r in zip(finds, results, strict=True)
    }
    project.save()
    return len(project.words)


def _new_words(recognizer: CompositionRecognizer, pairs: Sequence[Pair] | None, words: Any) -> bool:
    """Whether there are words that were not taught; ConfigError where the backbone cannot read them."""
    new = [] if pairs is None else [w for many in recognizer.vocabulary.new_words(pairs) for w in many]
    if new and recognizer.texts is None:
        what = f"{new[0]!r} was not taught, and {recognizer.backbone.name} reads no text"
        raise ConfigError(what, where=words, hint="give --backbone a CLIP, or use words that were taught")
    return bool(new)


def read_words(file: Path) -> list[Pair]:
    """The pairs of a file, one a line; empty lines and those that begin with ``#`` are left out.

    Raises:
        DataError: no such file, not text, no pair in it, or a line without exactly two words.
    """
    pairs: list[Pair] = []
    for number, line in read_lines(file):
        if line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 2:
            hint = "write an attribute and an object, such as `scratch washer`"
            raise DataError(f"line {number} is no pair: {line!r}", where=file, hint=hint)
        pairs.append((parts[0], parts[1]))
    if not pairs:
        raise DataError("holds no pair", where=file, hint="write one a line, such as `scratch washer`")
    return pairs


def in_words(project: Project, finds: Sequence[str]) -> str:
    """The commonest description of some finds, with its share; empty where none is described."""
    said = [f"{w['attribute']} {w['object']}" for f in finds if (w := project.words.get(f)) and w["known"]]
    if not said:
        return ""
    best, count = Counter(said).most_common(1)[0]
    return best if count == len(finds) == 1 else f"{best} ({count} of {len(finds)})"


def _recognizer(model: str, backbone: str, progress: bool) -> CompositionRecognizer:
    """The taught method, from the cache where it was taught before; or a checkpoint."""
    if Path(model).is_dir():
        return CompositionRecognizer.from_pretrained(model)
    if model not in METHODS:
        hint = f"use one of {', '.join(METHODS)}, or a folder that `wildsight composition fit` wrote"
        raise ConfigError(f"no method or folder is called {model!r}", hint=hint)
    made = CompositionRecognizer(model, backbone)
    key = digest_of([VERSION, TRAINING_SET, model, backbone, made.backbone.sha])[:16]

    def teach() -> CompositionRecognizer:
        return made.fit(str(training_set(progress=progress)), progress=progress, **TRAINING_SET["training"])

    folder = cache_folder("inspect") / f"describer-{key}"
    return kept(folder, CompositionRecognizer.from_pretrained, teach)


def training_set(*, progress: bool = False, held_out: Callable[[Pair], bool] | None = None) -> Path:
    """Crops of the world's products, good and with every defect, as the composition task reads them.

    Args:
        progress: show progress and the time left.
        held_out: the pairs that training does not show; they go to the test. None trains on all.

    Returns:
        A folder in the cache, drawn on first use.
    """
    pairs = [(defect, product) for defect in STATES for product in CATEGORIES]
    hidden = [p for p in pairs if held_out and held_out((STATES[p[0]], p[1]))]
    key = digest_of([VERSION, TRAINING_SET, sorted(map(str, hidden))])[:16]
    folder = cache_folder("inspect") / f"training-{key}"
    if folder.is_dir():
        return folder
    with (
        atomic_folder(folder) as root,
        Meter("describe: training set", len(pairs), enabled=progress) as meter,
    ):
        for defect, product in pairs:
            split = "test" if (defect, product) in hidden else "train"
            draw_pair(root / split, defect, product, TRAINING_SET["seed"], TRAINING_SET["per_pair"])
            meter.add(1)
    return folder


def draw_pair(root: Path, defect: str | None, product: str, seed: int, count: int) -> None:
    """Crops of one product with one defect, cut out as finds are.

    Args:
        root: gets ``state/product/*.png``.
        defect: of the world; None is a good product.
        product: of the world.
        seed: another one gives other pictures.
        count: how many.
    """
    folder = root / STATES[defect] / product
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        place = 20_000_000 + seed * 1_000 + number
        drawn = render_product(product, place, defect=defect, size=TRAINING_SET["size"])
        picture = from_array(drawn.image)
        cropped(picture, _around(drawn.mask, place)).save(folder / f"{number:03d}.png")


def _around(mask: np.ndarray, seed: int) -> tuple[float, float, float, float]:
    """The box of a mask; of an empty one, a box somewhere in the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    rng, size = np.random.default_rng(seed), mask.shape[0]
    side = size * rng.uniform(0.15, 0.5)
    x, y = rng.uniform(0, size - side, 2)
    return float(x), float(y), float(x + side), float(y + side)
