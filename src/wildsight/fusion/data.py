"""The fusion task's data: what a source holds, its pixels with every fault named, and a check beforehand.

`READERS` maps the name in a source (``deliver:/data/DELIVER``) to its reader; the folders themselves are read
in `wildsight.datasets.multimodal`. Nothing is ever downloaded, and nothing here imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.datasets import formats, masks, multimodal
from wildsight.datasets.multimodal import IGNORE, Band, FusionSample, Indexed, Picture, Split
from wildsight.datasets.multimodal_config import SETTINGS, scales_of, unit_example
from wildsight.datasets.source import DataSource, read_named
from wildsight.errors import DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import bit_depth, declared_scale, image_size, load_labels, load_values
from wildsight.sources import Problem

__all__ = [
    "READERS", "FusionData", "FusionSample", "Problem", "check", "check_source", "read", "read_mask",
    "read_source", "read_values", "without", "world",
]  # fmt: skip

SENSORS = ("rgb", "depth", "thermal", "event", "lidar")
SIZE = 64
TRAIN = {"": 120, "night": 30, "fog": 30, "overexposure": 30}
TEST = {"": 50, "night": 50, "fog": 50, "overexposure": 50}
CLEAR = "clear"
DARK = np.zeros((8, 8, 3), np.float32)


@dataclass(frozen=True)
class FusionData:
    """An indexed multi-modal set.

    Attributes:
        name: the reader's name.
        root: the folder read; None for arrays.
        found: what the layout found: samples, modalities, classes, task, units.
        protocol: split rule, counts and a hash; printed with scores.
    """

    name: str
    root: Path | None
    found: Indexed
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return self.found.modalities

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by id."""
        return self.found.classes

    @property
    def saliency(self) -> bool:
        """Whether masks say what is salient, not which class."""
        return self.found.task == "saliency"

    def part(self, split: Split) -> list[FusionSample]:
        """The samples of one split."""
        return [s for s in self.found.samples if s.split == split]

    def with_modalities(self, names: Sequence[str]) -> FusionData:
        """The same set with these modalities alone, in this order.

        Raises:
            DataError: a modality that the set does not have, or one named twice.
        """
        if isinstance(names, str) or len(set(names)) < len(names):
            hint = f"list each once, from {', '.join(self.modalities)}"
            raise DataError(
                f"modalities {names!r} are no list of different names", where=self.root, hint=hint
            )
        if unknown := [n for n in names if n not in self.modalities]:
            hint = f"choose from {', '.join(self.modalities)}"
            raise DataError(f"no modality is called {unknown[0]!r}", where=self.root, hint=hint)
        samples = tuple(
            replace(s, pictures={n: s.pictures[n] for n in names if n in s.pictures})
            for s in self.found.samples
        )
        return replace(self, found=replace(self.found, samples=samples, modalities=tuple(names)))


_OFFICIAL = "the set's own"
_HASHED = f"{multimodal.TRAIN_SHARE:.0%} train by hash of the stem"
_LAYOUTS: dict[str, tuple[Callable[[Path], Indexed], str]] = {
    "deliver": (multimodal.deliver, f"{_OFFICIAL}; depth is the HHA folder"),
    "vdt2048": (multimodal.vdt, f"{_OFFICIAL}; challenge folders are test"),
    "mfnet": (multimodal.mfnet, _OFFICIAL),
    "nyuv2": (multimodal.nyu, f"{_OFFICIAL}, 40 classes"),
    "crack-rgbtd": (multimodal.crack, _OFFICIAL),
    "folder": (
        multimodal.plain,
        f"train/test folders, or {multimodal.TRAIN_SHARE:.0%} train by hash of the stem",
    ),
}


def _index(path: Path, *, name: str) -> FusionData:
    layout, split = _LAYOUTS[name]
    found = layout(path)
    if not found.samples or len(found.modalities) < 1:
        hint = " ".join((layout.__doc__ or "").split("\n\n")[0].split())
        raise DataError(f"holds no {name} layout", where=path, hint=f"expected {hint}")
    return _scaled(name, path, found, split)


def _scaled(name: str, root: Path, found: Indexed, split: str) -> FusionData:
    found = replace(found, scales={**found.scales, **scales_of(root, found.modalities)})
    return FusionData(name, root, found, protocol(found, split))


def _shared(path: Path, *, name: str) -> FusionData:
    """A CSV or a set of the hub."""
    table = formats.read_table(name, path)
    split = "the column split" if all(row.split for row in table.rows) else _HASHED
    return _scaled(name, table.root, multimodal.of_table(table), split)


def protocol(found: Indexed, split: str) -> dict[str, Any]:
    """Split rule, counts, and a hash of names, splits and conditions."""
    rows = sorted([s.name, s.split, s.condition] for s in found.samples)
    counts = Counter(s.split for s in found.samples)
    return {
        "split": split,
        "modalities": list(found.modalities),
        "counts": dict(counts),
        "hash": digest_of(rows),
    }


READERS: dict[str, Callable[[Path], FusionData]] = {
    **{name: partial(_index, name=name) for name in _LAYOUTS},
    **{name: partial(_shared, name=name) for name in formats.TABLES},
}


def read(name: str, path: str | Path) -> FusionData:
    """Index a set on disk.

    Raises:
        DataError: an unknown name, a missing folder, or another layout.
    """
    return read_named(READERS, name, path)


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


def three(values: np.ndarray) -> np.ndarray:
    """A sensor's reading [H, W, C] in [0, 1] as three channels: one is repeated, two get a third of zeros."""
    if values.shape[-1] == 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    return np.ascontiguousarray(np.broadcast_to(values[..., :3], (*values.shape[:2], 3)), np.float32)


def file_of(picture: Picture | None) -> Path | None:
    """The file behind a picture, if it is one."""
    if isinstance(picture, Band):
        return picture.path
    return picture if isinstance(picture, Path) else None


def read_values(picture: Picture, name: str, full_scale: float | None = None) -> np.ndarray:
    """A modality's picture, [H, W, 3] float32 in [0, 1].

    Args:
        picture: file, band of a file, or array.
        name: the modality, for messages.
        full_scale: stored value that becomes 1, where the file has more than 8 bits.

    Raises:
        DataError: more than 8 bits with no stated unit.
        ImageError: an unreadable file.
    """
    if isinstance(picture, np.ndarray):
        return picture
    if isinstance(picture, Band):
        return load_values(picture.path, channels=slice(picture.start, picture.stop))
    bits, full_scale = bit_depth(picture), full_scale or declared_scale()
    if bits > 8 and full_scale is None:
        hint = f"state it in {SETTINGS}: {unit_example(name)}"
        raise DataError(f"{name} of {bits} bits in an unstated unit", where=picture, hint=hint)
    return load_values(picture, full_scale=full_scale)


def read_mask(sample: FusionSample, found: Indexed) -> np.ndarray:
    """A sample's class ids, [H, W] int64, 255 where nothing counts.

    Raises:
        DataError: no mask, or an id that is no class.
        ImageError: an unreadable mask.
    """
    if sample.mask is None:
        raise DataError("has no mask", where=sample.name, hint="add one with the same stem to masks/")
    if isinstance(sample.mask, np.ndarray):
        return sample.mask
    if found.rule in ("binary", "half"):
        if found.rule == "binary":
            return masks.read_mask(sample.mask, found.masks).astype(np.int64)
        return (load_labels(sample.mask) > 128).astype(np.int64)
    ids = load_labels(sample.mask)
    if found.rule == "minus-one":
        ids = np.where((ids == 0) | (ids == IGNORE), IGNORE, ids - 1)
    wrong = (ids >= len(found.classes)) & (ids != IGNORE)
    if wrong.any():
        hint = f"use ids below {len(found.classes)}, and {IGNORE} for what does not count"
        raise DataError(f"holds id {ids[wrong][0]}, which is no class", where=sample.mask, hint=hint)
    return ids


def same_size(sample: FusionSample, found: Indexed) -> tuple[int, int] | None:
    """(width, height) that all files of a sample share; None without files.

    Raises:
        DataError: one of them, or the mask, has another size.
    """
    entries: list[tuple[str, Path | None]] = [
        (name, file_of(p)) for name, p in sample.pictures.items() if name not in found.loose
    ]
    entries.append(("mask", sample.mask if isinstance(sample.mask, Path) else None))
    first: tuple[str, tuple[int, int]] | None = None
    for name, file in entries:
        if file is None:
            continue
        size = image_size(file)
        if first is None:
            first = (name, size)
        elif size != first[1]:
            what = f"{name} is {size[0]} x {size[1]}, its {first[0]} {first[1][0]} x {first[1][1]}"
            raise DataError(what, where=file, hint="register them to one grid")
    return None if first is None else first[1]


def check(data: FusionData) -> list[Problem]:
    """Every fault found in a set, before any training.

    Finds: scenes that lack a modality or a mask, sizes that differ, unreadable files, ids that are no class,
    depths of 8 and 16 bits in one modality, deep pictures in no stated unit, the same picture in two splits,
    and splits without scenes.
    """
    return [
        *_splits(data),
        *(problem for sample in data.found.samples for problem in _sample_problems(sample, data.found)),
        *_bits(data),
        *_duplicates(data),
    ]


def _splits(data: FusionData) -> Iterator[Problem]:
    where = data.root or Path(data.name)
    for split in ("train", "test"):
        if not any(s.split == split for s in data.found.samples):
            yield Problem(where, f"no scene is in {split}", "add some, or leave out the split folders")


def _sample_problems(sample: FusionSample, found: Indexed) -> Iterator[Problem]:
    files = [f for p in sample.pictures.values() if (f := file_of(p)) is not None]
    anchor = files[0] if files else Path(sample.name)
    for name in found.modalities:
        if name not in sample.pictures:
            yield Problem(anchor, f"scene {sample.name} has no {name}", "add it with the same stem")
    if sample.mask is None:
        yield Problem(anchor, f"scene {sample.name} has no mask", "add it with the same stem to masks/")
    try:
        same_size(sample, found)
        for name, picture in sample.pictures.items():
            read_values(picture, name, found.scales.get(name, 65535.0))
        if sample.mask is not None:
            read_mask(sample, found)
    except (DataError, ImageError) as error:
        yield Problem(Path(error.where or anchor), error.what, error.hint or "restore it")


def _bits(data: FusionData) -> Iterator[Problem]:
    for name in data.modalities:
        kinds: dict[int, list[Path]] = {}
        for file in _files(data.found.samples, name):
            try:
                kinds.setdefault(max(8, bit_depth(file)), []).append(file)
            except ImageError:
                continue
        if len(kinds) > 1:
            few = min(kinds.values(), key=len)
            what = f"{name} mixes " + " and ".join(f"{len(v)} of {k} bits" for k, v in sorted(kinds.items()))
            yield Problem(few[0], what, "save all of them with one bit depth")
        elif kinds and max(kinds) > 8 and not data.found.scales.get(name, declared_scale()):
            file = next(iter(kinds.values()))[0]
            what = f"{name} of {max(kinds)} bits in an unstated unit"
            yield Problem(file, what, f"state its full_scale and unit in {SETTINGS}")


def _files(samples: Iterable[FusionSample], name: str) -> Iterator[Path]:
    for sample in samples:
        file = file_of(sample.pictures.get(name))
        if file is not None and file.is_file():
            yield file


def _duplicates(data: FusionData) -> Iterator[Problem]:
    first: dict[str, FusionSample] = {}
    for sample in data.found.samples:
        files = [f for p in sample.pictures.values() if (f := file_of(p)) is not None and f.is_file()]
        if not files:
            continue
        twin = first.setdefault(sha256(files[0]), sample)
        if twin.split != sample.split:
            yield Problem(files[0], f"the same picture as {twin.name}, which is in {twin.split}", "keep one")


def gaps(samples: Sequence[FusionSample], names: Sequence[str]) -> list[str]:
    """A sentence for every modality that no scene has, and for every scene without another one or a mask."""
    some = [n for n in names if any(n in s.pictures for s in samples)]
    said = [f"no scene has {n}" for n in names if n not in some]
    for sample in samples:
        lacking = [n for n in some if n not in sample.pictures] + ["mask"] * (sample.mask is None)
        if lacking:
            said.append(f"scene {sample.name} has no {', no '.join(lacking)}")
    return said


def needed(samples: Sequence[FusionSample], names: Sequence[str], allow_missing: bool) -> None:
    """Refuse scenes without any modality and, unless allowed, scenes that lack one.

    Raises:
        DataError: the first such scene.
    """
    for sample in samples:
        lacking = [n for n in names if n not in sample.pictures]
        if len(lacking) == len(names):
            raise DataError("has none of the modalities", where=sample.name, hint=f"add {', '.join(names)}")
        if lacking and not allow_missing:
            file = next((f for p in sample.pictures.values() if (f := file_of(p)) is not None), sample.name)
            hint = "add it with the same stem, or allow missing modalities"
            raise DataError(f"its scene has no {lacking[0]}", where=file, hint=hint)


_SOURCE = DataSource(READERS, lambda: world(), check)
read_source = _SOURCE.read
"""The data behind ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder."""
check_source = _SOURCE.problems
"""Every problem found in a source, before any training starts; imports no torch."""
