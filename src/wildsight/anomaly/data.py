"""The anomaly task's data: how a source becomes samples, their masks, and a check before training.

`READERS` maps the name in a source (``mvtec-ad:/data/mvtec``) to its reader; the benchmark folders are read
in `wildsight.datasets.defects`. Nothing is ever downloaded, and nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.datasets import defects, formats, masks
from wildsight.datasets.defects import GOOD, DefectPicture, Split
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import pictures, subfolders
from wildsight.datasets.masks import GRADED, TWO_VALUED, MaskRule, declared, defect_mask, resize_mask
from wildsight.datasets.source import DataSource, read_named
from wildsight.datasets.source import world_folder as drawn_folder
from wildsight.errors import DataError, ImageError, WildSightError
from wildsight.files import digest_of, sha256
from wildsight.images import load_image
from wildsight.sources import Problem

__all__ = [
    "READERS", "AnomalyData", "AnomalySample", "Problem", "check", "check_source", "read", "read_mask",
    "read_source", "world_folder",
]  # fmt: skip

TRAIN_SHARE = 0.8
WORLD_SETTINGS = {"good": 60, "test_good": 20, "test_bad": 20, "size": 128, "seed": 0}


@dataclass(frozen=True)
class AnomalySample:
    """One picture of an anomaly set.

    Attributes:
        image: the picture.
        masks: its defect masks, united by `read_mask`; empty when there are none.
        label: 0 good, 1 defect.
        category: the product or surface shown.
        defect: the kind of defect, ``good`` for good pictures.
        split: the part of the protocol that it belongs to.
        rule: how its masks are read.
    """

    image: Path
    masks: tuple[Path, ...]
    label: int
    category: str
    defect: str
    split: Split
    rule: MaskRule = TWO_VALUED


@dataclass(frozen=True)
class AnomalyData:
    """An indexed set of pictures.

    Attributes:
        name: the reader's name.
        root: the folder read.
        samples: all samples, in the layout's order.
        protocol: split rule, counts and a ``hash`` of relative paths, labels and splits; printed with scores.
    """

    name: str
    root: Path
    samples: tuple[AnomalySample, ...]
    protocol: dict[str, Any]

    @property
    def train(self) -> tuple[AnomalySample, ...]:
        """The training split; KSDD2 and SPT have defects in theirs, so see `normal`."""
        return self._part("train")

    @property
    def normal(self) -> tuple[AnomalySample, ...]:
        """The good pictures of the training split: all that an unsupervised method may see."""
        return tuple(s for s in self.train if s.label == 0)

    @property
    def validation(self) -> tuple[AnomalySample, ...]:
        """The validation split; empty for most sets."""
        return self._part("validation")

    @property
    def test(self) -> tuple[AnomalySample, ...]:
        """The test split, good and defective."""
        return self._part("test")

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, sorted."""
        return tuple(sorted({s.category for s in self.samples}))

    def select(self, categories: Iterable[str] | None) -> AnomalyData:
        """The same set with these categories alone; None keeps all.

        Raises:
            DataError: a category that the set does not have.
        """
        if categories is None:
            return self
        wanted = set(categories)
        if unknown := sorted(wanted - set(self.categories)):
            raise DataError(
                f"no category {', '.join(unknown)}",
                where=self.root,
                hint=f"choose from {', '.join(self.categories)}",
            )
        kept = tuple(s for s in self.samples if s.category in wanted)
        return AnomalyData(self.name, self.root, kept, _protocol(self.root, kept, self.protocol["split"]))

    def _part(self, split: Split) -> tuple[AnomalySample, ...]:
        return tuple(s for s in self.samples if s.split == split)


def _protocol(root: Path, samples: tuple[AnomalySample, ...], split: str) -> dict[str, Any]:
    rows = sorted([s.image.relative_to(root).as_posix(), s.label, s.split] for s in samples)
    counts: dict[str, int] = defaultdict(int)
    for sample in samples:
        counts[f"{sample.split}_{'defect' if sample.label else 'good'}"] += 1
    categories = sorted({s.category for s in samples})
    return {"split": split, "categories": categories, "counts": dict(counts), "hash": digest_of(rows)}


def plain(root: Path, rule: MaskRule = TWO_VALUED) -> list[DefectPicture]:
    """A plain folder: ``normal/`` with ``abnormal/`` and ``masks/`` if any, MVTec form, or folders of these.

    With ``abnormal`` pictures, a share of ``normal`` trains and the rest tests; without, all of it trains.
    """
    if _is_normal_abnormal(root):
        return _normal_abnormal(root, root, rule)
    if defects.is_mvtec(root):
        return defects.mvtec(root, rule)
    inner = [_normal_abnormal(f, root, rule) for f in subfolders(root) if _is_normal_abnormal(f)]
    return [p for found in inner for p in found] + defects.mvtec(root, rule)


def _is_normal_abnormal(folder: Path) -> bool:
    return (folder / "normal").is_dir()


def _normal_abnormal(folder: Path, root: Path, rule: MaskRule) -> list[DefectPicture]:
    found = masks.masks_in(folder / "masks")
    good = [DefectPicture(p, (), folder.name, GOOD, None, rule) for p in pictures(folder / "normal")]
    bad = [
        DefectPicture(p, found.get(p.stem, ()), folder.name, "abnormal", None, rule)
        for p in pictures(folder / "abnormal")
    ]
    if not good and not bad:
        raise DataError("holds no pictures in the expected folders", where=folder, hint="check the layout")
    return _shared(good + bad, root)


def _shared(found: list[DefectPicture], root: Path) -> list[DefectPicture]:
    """Send `TRAIN_SHARE` of the good pictures to train, chosen by a hash of their relative paths."""
    good = sorted((p for p in found if p.good), key=lambda p: _hash(p.image.relative_to(root)))
    whole = len(good) == len(found)
    train = {p.image for p in (good if whole else good[: max(1, round(TRAIN_SHARE * len(good)))])}
    return [replace(p, split="train" if p.image in train else "test") for p in found]


def _hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()


def _samples(found: list[DefectPicture], root: Path) -> tuple[AnomalySample, ...]:
    """The task's samples; where the set has no split, a share of its good pictures trains."""
    split = found if all(p.split for p in found) else _shared(found, root)
    return tuple(
        AnomalySample(p.image, p.masks, int(not p.good), p.category, p.kind, p.split or "test", p.rule)
        for p in split
    )


def _index(root: Path, *, name: str) -> AnomalyData:
    layout, split = _LAYOUTS[name]
    rule = declared(root, TWO_VALUED if name == "folder" else GRADED)
    samples = _samples(layout(root, rule), root)
    if not samples:
        raise DataError(f"holds no {name} layout", where=root, hint=(layout.__doc__ or "").splitlines()[0])
    return AnomalyData(name, root, samples, _protocol(root, samples, split))


def _shared_source(path: Path, *, name: str) -> AnomalyData:
    """Annotations, a CSV or a set of the hub: its own split where every picture has one."""
    source = formats.read(name, path)
    found = formats.defects_of(source, Faults())
    if not found:
        raise DataError("annotates no picture", where=path, hint="annotate some")
    samples = _samples(found, source.root)
    split = _OFFICIAL if all(p.split for p in found) else _SHARED
    return AnomalyData(name, source.root, samples, _protocol(source.root, samples, split))


_OFFICIAL = "the set's own"
_SHARED = f"{TRAIN_SHARE:.0%} of the good pictures train, by hash of their paths"
_LAYOUTS: dict[str, tuple[defects.Layout, str]] = {
    "mvtec-ad": (defects.mvtec, _OFFICIAL),
    "mvtec-ad2": (defects.mvtec, f"{_OFFICIAL}, public test alone"),
    "mvtec-loco": (defects.mvtec, _OFFICIAL),
    "autovi": (defects.mvtec, _OFFICIAL),
    "visa": (defects.visa, f"{_OFFICIAL}, 1cls"),
    "btad": (defects.mvtec, _OFFICIAL),
    "mpdd": (defects.mvtec, _OFFICIAL),
    "real-iad": (defects.real_iad, f"{_OFFICIAL}, all views"),
    "ksdd": (defects.ksdd, _SHARED),
    "ksdd2": (defects.ksdd2, f"{_OFFICIAL}, label from the mask"),
    "mtd": (defects.mtd, _SHARED),
    "spt": (defects.spt, f"{_OFFICIAL}, defective pictures alone"),
    "folder": (plain, f"train/test folders, or {_SHARED}"),
}
READERS: dict[str, Callable[[Path], AnomalyData]] = {
    **{name: partial(_index, name=name) for name in _LAYOUTS},
    **{name: partial(_shared_source, name=name) for name in formats.SCHEMES},
}


def read(name: str, path: str | Path) -> AnomalyData:
    """Index a set on disk.

    Args:
        name: a key of `READERS`.
        path: its root folder.

    Raises:
        DataError: an unknown name, a missing folder, an empty category, a broken list, or another layout.
    """
    return read_named(READERS, name, path)


def world_folder() -> Path:
    """The embedded world's products as a folder in the MVTec layout, drawn on first use.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    from wildsight.world import WORLD_VERSION
    from wildsight.world.products import export_products

    return drawn_folder(
        "products", WORLD_VERSION, WORLD_SETTINGS, lambda folder: export_products(folder, **WORLD_SETTINGS)
    )


def read_mask(sample: AnomalySample, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The union of a sample's masks, nearest-resized.

    Args:
        sample: a sample; a good one without masks gives an empty mask.
        size: (H, W) in pixels.

    Returns:
        [H, W] bool, true on the defect.

    Raises:
        DataError: a defective picture without a mask, an empty one, or a mask that `defect_mask` refuses.
        ImageError: an unreadable mask.
    """
    if sample.label and not sample.masks:
        raise DataError(
            "a defect without a mask", where=sample.image, hint="add its mask or skip pixel scores"
        )
    image = sample.image if sample.image.is_file() else None
    found = defect_mask(sample.masks, sample.rule, image=image, scaled=True)
    if sample.label and not found:
        what = "an empty mask on a defective picture"
        raise DataError(what, where=sample.masks[0], hint="draw it, or call it good")
    union = np.zeros(size, dtype=bool)
    for mask in found:
        union |= resize_mask(mask, size)
    return union


def check(data: AnomalyData) -> list[Problem]:
    """Every fault found in a set; decodes each picture and mask once.

    Finds: categories without good training pictures, masks without a picture and defects without a mask,
    sizes that differ, empty masks on defects, unreadable files, the same file in two splits, and categories
    that mix grey and colour pictures.
    """
    pixels = [_pixel_problems(sample) for sample in data.samples]
    return [
        *_untrained(data),
        *_unmasked(data),
        *_orphans(data),
        *(problem for problems, _ in pixels for problem in problems),
        *_duplicates(data),
        *_mixed(data, [grey for _, grey in pixels]),
    ]


def _untrained(data: AnomalyData) -> Iterator[Problem]:
    for category in sorted(set(data.categories) - {s.category for s in data.normal}):
        if data.name != "spt":
            yield Problem(
                data.root, f"category {category} has no good training pictures", "add some or leave it out"
            )


def _unmasked(data: AnomalyData) -> Iterator[Problem]:
    for category in data.categories:
        defects = [s for s in data.samples if s.category == category and s.label]
        missing = [s for s in defects if not s.masks]
        if missing and len(missing) == len(defects):
            yield Problem(data.root, f"no defect of {category} has a mask", "add masks or skip pixel scores")
            continue
        for sample in missing:
            yield Problem(sample.image, "a defect without a mask", "add its mask, same stem")


def _orphans(data: AnomalyData) -> Iterator[Problem]:
    known = {path for s in data.samples for path in (s.image, *s.masks)}
    folders = {parent for s in data.samples for parent in s.image.parents if parent.is_relative_to(data.root)}
    loose: set[Path] = set()
    for folder in folders:
        loose |= {p for name in masks.FOLDERS for p in _below(folder / name)}
    for folder in {s.image.parent for s in data.samples}:
        files = pictures(folder)
        stems = {p.stem for p in files}
        loose |= {p for p in files if masks.bare_stem(p) not in stems}
    for path in sorted(loose - known):
        yield Problem(path, "a mask without its picture", "add the picture, same stem, or delete the mask")


def _below(folder: Path) -> Iterator[Path]:
    yield from pictures(folder)
    for inner in subfolders(folder):
        yield from _below(inner)


def _pixel_problems(sample: AnomalySample) -> tuple[list[Problem], bool | None]:
    """The faults of one sample's files, and whether its picture is grey (None when unreadable)."""
    try:
        picture = load_image(sample.image)
    except ImageError as error:
        return [_unreadable(sample.image, error)], None
    pixels = np.asarray(picture)
    grey = bool((pixels == pixels[..., :1]).all())
    return list(_mask_problems(sample)), grey


def _unreadable(path: Path, error: ImageError) -> Problem:
    return Problem(path, error.what, error.hint or "restore it")


def _mask_problems(sample: AnomalySample) -> Iterator[Problem]:
    """What scoring would say of the masks; that a defect has none is said elsewhere."""
    try:
        if sample.masks:
            read_mask(sample, (1, 1))
    except WildSightError as error:
        yield Problem(Path(error.where or sample.masks[0]), error.what, error.hint or "restore it")


def _duplicates(data: AnomalyData) -> Iterator[Problem]:
    first: dict[str, AnomalySample] = {}
    for sample in data.samples:
        if not sample.image.is_file():
            continue
        twin = first.setdefault(sha256(sample.image), sample)
        if twin.split != sample.split:
            yield Problem(
                sample.image,
                f"the same picture as {twin.image.relative_to(data.root)}, which is in {twin.split}",
                "keep it in one split",
            )


def _mixed(data: AnomalyData, greys: list[bool | None]) -> Iterator[Problem]:
    for category in data.categories:
        kinds: dict[bool, list[Path]] = {True: [], False: []}
        for sample, is_grey in zip(data.samples, greys, strict=True):
            if sample.category == category and is_grey is not None:
                kinds[is_grey].append(sample.image)
        grey, colour = kinds[True], kinds[False]
        if grey and colour:
            what = f"category {category} mixes {len(grey)} grey and {len(colour)} colour pictures"
            yield Problem(min(grey, colour, key=len)[0], what, "give all one colour mode")


_SOURCE = DataSource(
    READERS,
    lambda: read("mvtec-ad", world_folder()),
    check,
    formats.defects_of,
    files=lambda d: [s.image for s in d.samples],
)
read_source = _SOURCE.read
"""The data behind ``world``, ``NAME:PATH`` with a name from `READERS`, or a folder."""
check_source = _SOURCE.problems
"""Every problem found in a source, before any training starts; imports no torch."""
