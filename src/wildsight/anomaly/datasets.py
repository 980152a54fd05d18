"""Readers of the anomaly benchmarks and of plain folders, masks, and a check of the data before training.

`READERS` maps the name in a source (``mvtec-ad:/data/mvtec``) to its reader; the layouts themselves are in
`layouts`. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.anomaly import layouts
from wildsight.anomaly.layouts import AnomalySample, Layout, Split
from wildsight.errors import DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import load_image, load_mask
from wildsight.sources import Problem

__all__ = ["READERS", "AnomalyData", "AnomalySample", "Problem", "check", "read", "read_mask"]


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


def _index(path: Path, *, name: str, layout: Layout, split: str) -> AnomalyData:
    root = Path(path)
    if not root.is_dir():
        raise DataError("no such folder", where=root, hint="check the path")
    samples = tuple(layout(root))
    if not samples:
        raise DataError(f"holds no {name} layout", where=root, hint=(layout.__doc__ or "").splitlines()[0])
    return AnomalyData(name, root, samples, _protocol(root, samples, split))


_OFFICIAL = "the set's own"
_SHARED = f"{layouts.TRAIN_SHARE:.0%} of the good pictures train, by hash of their paths"
_LAYOUTS: dict[str, tuple[Layout, str]] = {
    "mvtec-ad": (layouts.mvtec, _OFFICIAL),
    "mvtec-ad2": (layouts.mvtec, f"{_OFFICIAL}, public test alone"),
    "mvtec-loco": (layouts.mvtec, _OFFICIAL),
    "visa": (layouts.visa, f"{_OFFICIAL}, 1cls"),
    "btad": (layouts.mvtec, _OFFICIAL),
    "mpdd": (layouts.mvtec, _OFFICIAL),
    "real-iad": (layouts.real_iad, f"{_OFFICIAL}, all views"),
    "ksdd": (layouts.ksdd, _SHARED),
    "ksdd2": (layouts.ksdd2, f"{_OFFICIAL}, label from the mask"),
    "mtd": (layouts.mtd, _SHARED),
    "spt": (layouts.spt, f"{_OFFICIAL}, defective pictures alone"),
    "folder": (layouts.plain, f"train/test folders, or {_SHARED}"),
}
READERS: dict[str, Callable[[Path], AnomalyData]] = {
    name: partial(_index, name=name, layout=layout, split=split) for name, (layout, split) in _LAYOUTS.items()
}


def read(name: str, path: str | Path) -> AnomalyData:
    """Index a set on disk.

    Args:
        name: a key of `READERS`.
        path: its root folder.

    Raises:
        DataError: an unknown name, a missing folder, an empty category, a broken list, or another layout.
    """
    if name not in READERS:
        raise DataError(f"no reader is called {name!r}", hint=f"use one of {', '.join(READERS)}")
    return READERS[name](Path(path))


def read_mask(sample: AnomalySample, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The union of a sample's masks, nearest-resized.

    Args:
        sample: a sample; a good one without masks gives an empty mask.
        size: (H, W) in pixels.

    Returns:
        [H, W] bool, true on the defect.

    Raises:
        DataError: a defective picture without a mask.
        ImageError: an unreadable mask.
    """
    if sample.label and not sample.masks:
        raise DataError(
            "a defect without a mask", where=sample.image, hint="add its mask or skip pixel scores"
        )
    union = np.zeros(size, dtype=bool)
    for path in sample.masks:
        union |= resize_mask(load_mask(path), size)
    return union


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """``mask`` [H, W] at ``size`` (rows, columns): each cell takes the old cell under its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(mask.shape, size, strict=True)
    )
    return mask[rows[:, None], columns]


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
        loose |= {p for name in layouts.MASK_FOLDERS for p in _below(folder / name)}
    for folder in {s.image.parent for s in data.samples}:
        files = layouts.pictures(folder)
        stems = {p.stem for p in files}
        loose |= {p for p in files if layouts.bare_stem(p) not in stems}
    for path in sorted(loose - known):
        yield Problem(path, "a mask without its picture", "add the picture, same stem, or delete the mask")


def _below(folder: Path) -> Iterator[Path]:
    yield from layouts.pictures(folder)
    for inner in layouts.subfolders(folder):
        yield from _below(inner)


def _pixel_problems(sample: AnomalySample) -> tuple[list[Problem], bool | None]:
    """The faults of one sample's files, and whether its picture is grey (None when unreadable)."""
    try:
        picture = load_image(sample.image)
    except ImageError as error:
        return [_unreadable(sample.image, error)], None
    pixels = np.asarray(picture)
    grey = bool((pixels == pixels[..., :1]).all())
    return list(_mask_problems(sample, picture.size)), grey


def _unreadable(path: Path, error: ImageError) -> Problem:
    return Problem(path, error.what, error.hint or "restore it")


def _mask_problems(sample: AnomalySample, size: tuple[int, int]) -> Iterator[Problem]:
    filled = False
    for path in sample.masks:
        try:
            mask = load_mask(path)
        except ImageError as error:
            yield _unreadable(path, error)
            return
        filled |= bool(mask.any())
        if mask.shape[::-1] != size:
            found = f"{mask.shape[1]} x {mask.shape[0]}"
            yield Problem(path, f"is {found}, its picture {size[0]} x {size[1]}", "give both one size")
    if sample.label and sample.masks and not filled:
        yield Problem(sample.masks[0], "an empty mask on a defective picture", "draw it, or call it good")


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
