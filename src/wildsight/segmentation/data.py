"""The segmentation task's data: pictures with defect masks, a split that never changes, and a check.

`READERS` holds the names in a source (``mtd:/data/mtd``); the benchmark folders are read in
`wildsight.datasets.defects`. Pictures without a defect are not read: this task outlines what is there.
Nothing is ever downloaded, and nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wildsight.datasets import defects, formats
from wildsight.datasets.defects import DefectPicture
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import pictures, subfolders
from wildsight.datasets.masks import (
    FOLDERS,
    TWO_VALUED,
    MaskRule,
    declared,
    defect_mask,
    masks_in,
    pairs_in,
)
from wildsight.datasets.source import DataSource, read_named
from wildsight.datasets.source import world_folder as drawn_folder
from wildsight.errors import ConfigError, DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import load_image
from wildsight.sources import WORLD, Problem

Split = Literal["train", "test"]
IMAGE_FOLDERS = ("images", "abnormal")
TRAIN_FRACTION = 0.5
WORLD_SETTINGS = {"good": 1, "test_good": 0, "test_bad": 28, "size": 128, "seed": 5}


@dataclass(frozen=True)
class MaskSample:
    """One picture with a defect.

    Attributes:
        image: the picture.
        masks: its masks, united by `read_mask`; empty when there are none.
        category: the product or surface shown.
        defect: the kind of defect.
        split: ``train`` or ``test``.
        rule: how its masks are read.
    """

    image: Path
    masks: tuple[Path, ...]
    category: str
    defect: str
    split: Split
    rule: MaskRule = TWO_VALUED


@dataclass(frozen=True)
class SegmentationData:
    """An indexed set of defects.

    Attributes:
        name: the reader's name.
        root: the folder read.
        samples: in the layout's order.
        protocol: split rule, counts and a ``hash`` of relative paths and splits; printed with scores.
    """

    name: str
    root: Path
    samples: tuple[MaskSample, ...]
    protocol: dict[str, Any]

    @property
    def train(self) -> tuple[MaskSample, ...]:
        """The training half."""
        return tuple(s for s in self.samples if s.split == "train")

    @property
    def test(self) -> tuple[MaskSample, ...]:
        """The other half."""
        return tuple(s for s in self.samples if s.split == "test")

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, sorted."""
        return tuple(sorted({s.category for s in self.samples}))

    def splits(self) -> dict[str, Any]:
        """What ``splits.json`` holds: the protocol, and the relative paths of each half."""
        names = {s: [self._relative(x) for x in self.samples if x.split == s] for s in ("train", "test")}
        return {"protocol": self.protocol, **names}

    def _relative(self, sample: MaskSample) -> str:
        return sample.image.relative_to(self.root).as_posix()


def mvtec(root: Path, rule: MaskRule) -> list[DefectPicture]:
    """MVTec AD, BTAD, MPDD, prepared VisA: ``<category>/{test,ground_truth}/<defect>``."""
    return defects.mvtec(root, rule, defects.has_masks)


def plain(root: Path, rule: MaskRule) -> list[DefectPicture]:
    """A plain folder: ``images`` and ``masks``, masks beside pictures, MVTec form, or folders of these."""
    own = list(_plain_category(root, rule))
    found = own or mvtec(root, rule)
    if not own:
        for folder in subfolders(root):
            if folder.name not in (*FOLDERS, *IMAGE_FOLDERS) and not defects.has_masks(folder):
                found += _plain_category(folder, rule)
    return found


def _plain_category(folder: Path, rule: MaskRule) -> Iterator[DefectPicture]:
    masks = {k: v for name in FOLDERS for k, v in masks_in(folder / name).items()}
    files = [p for name in IMAGE_FOLDERS for p in pictures(folder / name)]
    pairs = [(p, masks.get(p.stem, ())) for p in files]
    for image, found in pairs or [pair for pair in pairs_in(folder) if pair[1]]:
        yield DefectPicture(image, found, folder.name, "defect", None, rule)


def hashed_split(
    samples: Iterable[MaskSample], root: Path, train_fraction: float = TRAIN_FRACTION
) -> tuple[MaskSample, ...]:
    """The same samples, a share of each (category, defect) sent to train by a hash of relative paths.

    Args:
        samples: any.
        root: the hash is over paths below it, so that moving the folder changes nothing.
        train_fraction: in (0, 1]; below 1, a kind with two or more defects keeps at least one on each side,
            and a single defect goes by its own hash.

    Raises:
        ConfigError: ``train_fraction`` outside (0, 1].
    """
    if not 0.0 < train_fraction <= 1.0:
        raise ConfigError(f"train_fraction={train_fraction} is outside (0, 1]", hint="try 0.5")
    every = list(samples)
    train: set[Path] = set()
    for members in _by_kind(every).values():
        ordered = sorted(members, key=lambda s: path_hash(s.image.relative_to(root)))
        count = round(train_fraction * len(ordered))
        if train_fraction < 1.0:
            alone = int(path_hash(ordered[0].image.relative_to(root))[:8], 16) / 2**32 < train_fraction
            count = min(max(count, 1), len(ordered) - 1) if len(ordered) > 1 else int(alone)
        train |= {s.image for s in ordered[:count]}
    return tuple(replace(s, split="train" if s.image in train else "test") for s in every)


def _by_kind(samples: Iterable[MaskSample]) -> dict[tuple[str, str], list[MaskSample]]:
    groups: dict[tuple[str, str], list[MaskSample]] = defaultdict(list)
    for sample in samples:
        groups[sample.category, sample.defect].append(sample)
    return groups


def path_hash(path: Path) -> str:
    """SHA-256 of a path's text."""
    return hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()


def at_most(samples: Iterable[MaskSample], count: int, root: Path) -> tuple[MaskSample, ...]:
    """At most ``count`` samples, dealt over the (category, defect) kinds in turn, by hash."""
    groups = [
        sorted(group, key=lambda s: path_hash(s.image.relative_to(root)))
        for _, group in sorted(_by_kind(samples).items())
    ]
    longest = max((len(g) for g in groups), default=0)
    dealt = [group[i] for i in range(longest) for group in groups if i < len(group)]
    return tuple(dealt[:count])


_HASHED = "of each kind of defect trains, by hash of the paths"
_LAYOUTS: dict[str, tuple[defects.Layout, bool]] = {
    "mvtec-ad": (mvtec, False),
    "btad": (mvtec, False),
    "mpdd": (mvtec, False),
    "visa": (mvtec, False),
    "ksdd2": (defects.ksdd2, True),
    "mtd": (defects.mtd, False),
    "spt": (defects.spt, True),
    "folder": (plain, False),
}
READERS: tuple[str, ...] = (*_LAYOUTS, *formats.SCHEMES)


def read(name: str, path: str | Path, *, train_fraction: float = TRAIN_FRACTION) -> SegmentationData:
    """Index a set on disk.

    Args:
        name: one of `READERS`.
        path: its root folder.
        train_fraction: share of each kind of defect that trains, where the set has no split of its own.

    Raises:
        DataError: an unknown name, a missing folder, or another layout.
    """
    return read_named(_readers(train_fraction), name, path)


def _readers(train_fraction: float) -> dict[str, Callable[[Path], SegmentationData]]:
    layouts = {name: partial(_index, name=name, train_fraction=train_fraction) for name in _LAYOUTS}
    shared = {name: partial(_shared, name=name, train_fraction=train_fraction) for name in formats.SCHEMES}
    return {**layouts, **shared}


def _shared(path: Path, *, name: str, train_fraction: float) -> SegmentationData:
    """Annotations, a CSV or a set of the hub: its own split where every picture has one."""
    source = formats.read(name, path)
    found = [p for p in formats.defects_of(source, Faults()) if not p.good]
    if not found:
        raise DataError("outlines no defect", where=path, hint="annotate some")
    return _data(name, source.root, found, all(p.split for p in found), train_fraction)


def _index(root: Path, *, name: str, train_fraction: float) -> SegmentationData:
    layout, own = _LAYOUTS[name]
    found = [
        p for p in layout(root, declared(root, TWO_VALUED)) if not p.good and (own or p.split != "train")
    ]
    if not found:
        raise DataError(
            f"holds no defect in the {name} layout", where=root, hint=(layout.__doc__ or "").splitlines()[0]
        )
    return _data(name, root, found, own, train_fraction)


def _data(
    name: str, root: Path, found: list[DefectPicture], own: bool, train_fraction: float
) -> SegmentationData:
    """The set of these defects, by its own split or by one of ours."""
    samples = tuple(
        MaskSample(p.image, p.masks, p.category, p.kind, "train" if p.split == "train" else "test", p.rule)
        for p in found
    )
    samples = samples if own else hashed_split(samples, root, train_fraction)
    rule = "the set's own" if own else f"{train_fraction:.0%} {_HASHED}"
    return SegmentationData(name, root, samples, _protocol(root, samples, rule))


def read_source(text: str | Path, *, train_fraction: float = TRAIN_FRACTION) -> SegmentationData:
    """The data behind a source string.

    Args:
        text: ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder.
        train_fraction: share of each kind of defect that trains, where the set has no split of its own.

    Raises:
        DataError: a missing folder, or one that does not fit its layout.
    """
    return _source(train_fraction).read(text)


def check_source(text: str | Path) -> list[Problem]:
    """Every problem found in a source, before any training starts; imports no torch."""
    return _source().problems(text)


def _source(train_fraction: float = TRAIN_FRACTION) -> DataSource[SegmentationData]:
    def world() -> SegmentationData:
        return replace(read("mvtec-ad", world_folder(), train_fraction=train_fraction), name=WORLD)

    return DataSource(
        _readers(train_fraction),
        world,
        check,
        formats.defects_of,
        files=lambda d: [s.image for s in d.samples],
    )


def world_folder() -> Path:
    """The embedded world's defects, 28 of each product, in the MVTec layout; drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION
    from wildsight.world.products import export_products

    return drawn_folder(
        "defects", WORLD_VERSION, WORLD_SETTINGS, lambda folder: export_products(folder, **WORLD_SETTINGS)
    )


def _protocol(root: Path, samples: tuple[MaskSample, ...], rule: str) -> dict[str, Any]:
    rows = sorted([s.image.relative_to(root).as_posix(), s.split] for s in samples)
    counts = {split: sum(s.split == split for s in samples) for split in ("train", "test")}
    categories = sorted({s.category for s in samples})
    return {"split": rule, "categories": categories, "counts": counts, "hash": digest_of(rows)}


def read_mask(sample: MaskSample) -> NDArray[np.bool_]:
    """The union of a sample's masks, [H, W] bool, of its picture's size.

    Raises:
        DataError: no mask, an empty one, or one that `defect_mask` refuses.
        ImageError: an unreadable mask or picture.
    """
    if not sample.masks:
        raise DataError("a defect without a mask", where=sample.image, hint="add its mask, same stem")
    found = defect_mask(sample.masks, sample.rule, image=sample.image)
    if not found:
        raise DataError("an empty mask", where=sample.masks[0], hint="draw the defect, or leave it out")
    return np.logical_or.reduce(found)


def check(data: SegmentationData) -> list[Problem]:
    """Every fault found in a set; decodes each picture and mask once.

    Finds: pictures without a mask, empty masks, masks with more than two values, sizes that differ,
    unreadable files, the same picture in both halves, equal stems in one category, halves without a defect.
    """
    return [
        *(p for sample in data.samples for p in _sample_problems(sample)),
        *_twins(data),
        *(Problem(data.root, f"no defect in the {s} half", "add some") for s in _empty_halves(data)),
    ]


def _sample_problems(sample: MaskSample) -> Iterator[Problem]:
    try:
        load_image(sample.image)
        read_mask(sample)
    except (DataError, ImageError) as error:
        yield Problem(Path(error.where or sample.image), error.what, error.hint or "restore it")


def _twins(data: SegmentationData) -> Iterator[Problem]:
    first: dict[str, MaskSample] = {}
    stems: dict[tuple[str, str, str], Path] = {}
    for sample in data.samples:
        if not sample.image.is_file():
            continue
        twin = first.setdefault(sha256(sample.image), sample)
        if twin.split != sample.split:
            yield Problem(
                sample.image, f"the same picture as {twin.image.name} in {twin.split}", "keep one of them"
            )
        key = (sample.category, sample.defect, sample.image.stem)
        other = stems.setdefault(key, sample.image)
        if other != sample.image and other.parent == sample.image.parent:
            yield Problem(sample.image, f"shares its stem with {other.name}", "rename one of them")


def _empty_halves(data: SegmentationData) -> list[str]:
    return [name for name, count in data.protocol["counts"].items() if count == 0]
