"""Readers of pictures with defect masks, a deterministic split, and a check of the data before training.

`READERS` maps the name in a source (``mtd:/data/mtd``) to its layout. Pictures without a defect are not read:
this task outlines what is there. Nothing is ever downloaded, and nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wildsight.errors import ConfigError, DataError, ImageError
from wildsight.files import digest_of, sha256
from wildsight.images import list_images, load_image, load_mask
from wildsight.sources import Problem

Split = Literal["train", "test"]
GOOD_NAMES = frozenset({"good", "ok", "normal"})
MASK_SUFFIXES = ("_mask", "_GT", "_label")
MASK_FOLDERS = ("masks", "ground_truth", "Masks")
IMAGE_FOLDERS = ("images", "abnormal")
TRAIN_FRACTION = 0.5


@dataclass(frozen=True)
class MaskSample:
    """One picture with a defect.

    Attributes:
        image: the picture.
        masks: its masks, united by `read_mask`; empty when there are none.
        category: the product or surface shown.
        defect: the kind of defect.
        split: ``train`` or ``test``.
    """

    image: Path
    masks: tuple[Path, ...]
    category: str
    defect: str
    split: Split


Layout = Callable[[Path], Iterable[MaskSample]]


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


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly inside, sorted; empty when ``folder`` is missing."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def pictures(folder: Path) -> list[Path]:
    """The pictures directly inside, in natural order; empty when ``folder`` is missing."""
    return list_images(folder) if folder.is_dir() else []


def bare_stem(path: Path) -> str:
    """The stem without a mask suffix.

    >>> bare_stem(Path("000_mask.png")), bare_stem(Path("000.png"))
    ('000', '000')
    """
    for suffix in MASK_SUFFIXES:
        if path.stem.endswith(suffix):
            return path.stem.removesuffix(suffix)
    return path.stem


def masks_in(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Picture stem -> masks: files that share the stem, or all files of a folder of that name."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in pictures(folder):
        found[path.stem] = (path,)
        found.setdefault(bare_stem(path), (path,))
    for inner in subfolders(folder):
        found[inner.name] = tuple(pictures(inner))
    return found


def pairs_in(folder: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """Pictures whose masks lie beside them: ``a.jpg`` + ``a.png``, or ``a.png`` + ``a_GT.png``."""
    files = pictures(folder)
    plain = [p for p in files if bare_stem(p) == p.stem]
    masks = {bare_stem(p): p for p in files if bare_stem(p) != p.stem}
    others = {p.stem for p in plain if p.suffix.lower() != ".png"}
    masks |= {p.stem: p for p in plain if p.stem in others and p.suffix.lower() == ".png"}
    taken = set(masks.values())
    return [(p, (masks[p.stem],) if p.stem in masks else ()) for p in plain if p not in taken]


def _is_mvtec(folder: Path) -> bool:
    return (folder / "ground_truth").is_dir() and (folder / "test").is_dir()


def mvtec(root: Path) -> Iterator[MaskSample]:
    """MVTec AD, BTAD, MPDD, prepared VisA: ``<category>/{test,ground_truth}/<defect>``."""
    for folder in [root] if _is_mvtec(root) else [f for f in subfolders(root) if _is_mvtec(f)]:
        for kind in subfolders(folder / "test"):
            if kind.name.lower() in GOOD_NAMES:
                continue
            masks = masks_in(folder / "ground_truth" / kind.name)
            for image in pictures(kind):
                yield MaskSample(image, masks.get(image.stem, ()), folder.name, kind.name, "test")


def ksdd2(root: Path) -> Iterator[MaskSample]:
    """KolektorSDD2: ``{train,test}/NNNNN.png`` + ``NNNNN_GT.png``; pictures with an empty mask are good."""
    yield from _own_split(root, "ksdd2")


def _own_split(folder: Path, category: str) -> Iterator[MaskSample]:
    """``{train,test}`` with masks beside the pictures; empty masks are left out."""
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for image, masks in pairs_in(folder / split):
            if any(load_mask(mask).any() for mask in masks):
                yield MaskSample(image, masks, category, "defect", split)


def mtd(root: Path) -> Iterator[MaskSample]:
    """Magnetic tiles: ``MT_<Defect>/Imgs/<stem>.jpg`` + ``.png``; ``MT_Free`` is good."""
    for folder in subfolders(root):
        kind = folder.name.removeprefix("MT_").lower()
        if folder.name.startswith("MT_") and kind != "free":
            for image, masks in pairs_in(folder / "Imgs"):
                yield MaskSample(image, masks, "mtd", kind, "test")


def spt(root: Path) -> Iterator[MaskSample]:
    """The SPT archive: ``<set>/{train,test}/<stem>.jpg`` + ``.png``; empty masks are left out."""
    for folder in subfolders(root):
        yield from _own_split(folder, folder.name)


def plain(root: Path) -> Iterator[MaskSample]:
    """A plain folder: ``images`` and ``masks``, masks beside pictures, MVTec form, or folders of these."""
    own = list(_plain_category(root))
    yield from own or mvtec(root)
    if not own:
        for folder in subfolders(root):
            if folder.name not in (*MASK_FOLDERS, *IMAGE_FOLDERS) and not _is_mvtec(folder):
                yield from _plain_category(folder)


def _plain_category(folder: Path) -> Iterator[MaskSample]:
    masks = {k: v for name in MASK_FOLDERS for k, v in masks_in(folder / name).items()}
    files = [p for name in IMAGE_FOLDERS for p in pictures(folder / name)]
    pairs = [(p, masks.get(p.stem, ())) for p in files]
    for image, found in pairs or [pair for pair in pairs_in(folder) if pair[1]]:
        yield MaskSample(image, found, folder.name, "defect", "test")


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
    return hashlib.sha256(path.as_posix().encode()).hexdigest()


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
_LAYOUTS: dict[str, tuple[Layout, bool]] = {
    "mvtec-ad": (mvtec, False),
    "btad": (mvtec, False),
    "mpdd": (mvtec, False),
    "visa": (mvtec, False),
    "ksdd2": (ksdd2, True),
    "mtd": (mtd, False),
    "spt": (spt, True),
    "folder": (plain, False),
}
READERS: tuple[str, ...] = tuple(_LAYOUTS)


def read(name: str, path: str | Path, *, train_fraction: float = TRAIN_FRACTION) -> SegmentationData:
    """Index a set on disk.

    Args:
        name: one of `READERS`.
        path: its root folder.
        train_fraction: share of each kind of defect that trains, where the set has no split of its own.

    Raises:
        DataError: an unknown name, a missing folder, or another layout.
    """
    if name not in _LAYOUTS:
        raise DataError(f"no reader is called {name!r}", hint=f"use one of {', '.join(READERS)}")
    root, (layout, own) = Path(path), _LAYOUTS[name]
    if not root.is_dir():
        raise DataError("no such folder", where=root, hint="check the path")
    samples = tuple(layout(root))
    if not samples:
        raise DataError(
            f"holds no defect in the {name} layout", where=root, hint=(layout.__doc__ or "").splitlines()[0]
        )
    samples = samples if own else hashed_split(samples, root, train_fraction)
    rule = "the set's own" if own else f"{train_fraction:.0%} {_HASHED}"
    return SegmentationData(name, root, samples, _protocol(root, samples, rule))


def _protocol(root: Path, samples: tuple[MaskSample, ...], rule: str) -> dict[str, Any]:
    rows = sorted([s.image.relative_to(root).as_posix(), s.split] for s in samples)
    counts = {split: sum(s.split == split for s in samples) for split in ("train", "test")}
    categories = sorted({s.category for s in samples})
    return {"split": rule, "categories": categories, "counts": counts, "hash": digest_of(rows)}


def two_valued(path: Path) -> NDArray[np.bool_]:
    """A mask file as [H, W] bool.

    Raises:
        DataError: it holds more than two values.
        ImageError: it cannot be read.
    """
    values = np.unique(np.asarray(load_image(path).convert("L")))
    if len(values) > 2:
        raise DataError(
            f"a mask with {len(values)} values, not two", where=path, hint="save it as PNG of 0 and 255"
        )
    return load_mask(path)


def read_mask(sample: MaskSample) -> NDArray[np.bool_]:
    """The union of a sample's masks, [H, W] bool.

    Raises:
        DataError: no mask, an empty one, more than two values, or masks of different sizes.
        ImageError: an unreadable mask.
    """
    if not sample.masks:
        raise DataError("a defect without a mask", where=sample.image, hint="add its mask, same stem")
    parts = [two_valued(path) for path in sample.masks]
    if len({p.shape for p in parts}) > 1:
        raise DataError("masks of different sizes", where=sample.image, hint="give them one size")
    union = np.logical_or.reduce(parts)
    if not union.any():
        raise DataError("an empty mask", where=sample.masks[0], hint="draw the defect, or leave it out")
    return union


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
        size = load_image(sample.image).size
        mask = read_mask(sample)
    except (DataError, ImageError) as error:
        yield Problem(Path(error.where or sample.image), error.what, error.hint or "restore it")
        return
    if mask.shape[::-1] != size:
        found = f"{mask.shape[1]} x {mask.shape[0]}"
        yield Problem(sample.masks[0], f"is {found}, its picture {size[0]} x {size[1]}", "give both one size")


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
