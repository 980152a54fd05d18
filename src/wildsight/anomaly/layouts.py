"""The folder layouts of the anomaly benchmarks, each a function from a root folder to samples.

Layouts index files and read no pixels, except where the set itself keeps its labels in the masks (KSDD,
KSDD2, SPT). The label comes from the folder or list, never from a resized mask: resizing can erase a small
defect. Masks are matched by stem in any picture format, with the suffixes of `MASK_SUFFIXES` tried.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from wildsight.errors import DataError
from wildsight.files import read_json
from wildsight.images import list_images, load_mask

Split = Literal["train", "validation", "test"]

GOOD = "good"
GOOD_NAMES = frozenset({"good", "ok", "normal"})
MASK_SUFFIXES = ("_mask", "_GT", "_label")
MASK_FOLDERS = ("ground_truth", "masks", "Masks")
TRAIN_SHARE = 0.8


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
    """

    image: Path
    masks: tuple[Path, ...]
    label: int
    category: str
    defect: str
    split: Split


Layout = Callable[[Path], Iterable[AnomalySample]]


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly inside, sorted; empty when ``folder`` is missing."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def pictures(folder: Path) -> list[Path]:
    """The pictures directly inside, sorted; empty when ``folder`` is missing or has none."""
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
    files = [p for p in pictures(folder) if bare_stem(p) == p.stem]
    masks = {bare_stem(p): p for p in pictures(folder) if bare_stem(p) != p.stem}
    others = {p.stem for p in files if p.suffix.lower() != ".png"}
    masks |= {p.stem: p for p in files if p.stem in others and p.suffix.lower() == ".png"}
    taken = set(masks.values())
    return [(p, (masks[p.stem],) if p.stem in masks else ()) for p in files if p not in taken]


def _share(samples: Iterable[AnomalySample], root: Path) -> list[AnomalySample]:
    """Send `TRAIN_SHARE` of the good samples to train, chosen by a hash of their relative paths."""
    every = list(samples)
    good = sorted((s for s in every if s.label == 0), key=lambda s: _hash(s.image.relative_to(root)))
    whole = len(good) == len(every)
    train = {s.image for s in (good if whole else good[: max(1, round(TRAIN_SHARE * len(good)))])}
    return [replace(s, split="train" if s.image in train else "test") for s in every]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()


def _some(samples: Iterable[AnomalySample], folder: Path) -> list[AnomalySample]:
    found = list(samples)
    if not found:
        raise DataError("holds no pictures in the expected folders", where=folder, hint="check the layout")
    return found


def _from_masks(
    pairs: Iterable[tuple[Path, tuple[Path, ...]]], category: str, split: Split
) -> Iterator[AnomalySample]:
    """Samples whose label is the content of their full-size mask."""
    for image, masks in pairs:
        label = int(any(load_mask(mask).any() for mask in masks))
        yield AnomalySample(image, masks, label, category, "defect" if label else GOOD, split)


def _is_mvtec(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("train", "test", "test_public"))


def _mvtec_category(folder: Path) -> Iterator[AnomalySample]:
    parts: tuple[tuple[str, Split], ...] = (
        ("train", "train"),
        ("validation", "validation"),
        ("test", "test"),
        ("test_public", "test"),
    )
    for name, split in parts:
        truth = folder / name / "ground_truth"
        truth = truth if truth.is_dir() else folder / "ground_truth"
        for kind in subfolders(folder / name):
            if kind.name in MASK_FOLDERS:
                continue
            label = int(kind.name.lower() not in GOOD_NAMES)
            masks = masks_in(truth / kind.name) if split == "test" else {}
            for image in pictures(kind):
                defect = kind.name if label else GOOD
                yield AnomalySample(image, masks.get(image.stem, ()), label, folder.name, defect, split)


def mvtec(root: Path) -> list[AnomalySample]:
    """MVTec AD, AD 2, LOCO, BTAD, MPDD, prepared VisA: ``<category>/{train,test,ground_truth}/<kind>``.

    ``validation`` and ``test_public`` (AD 2, with its own ``ground_truth``) are read where present, private
    test sets without truth are not. A folder per picture below ``ground_truth`` (LOCO) gives several masks.
    """
    folders = [root] if _is_mvtec(root) else [f for f in subfolders(root) if _is_mvtec(f)]
    return [s for folder in folders for s in _some(_mvtec_category(folder), folder)]


def visa(root: Path) -> list[AnomalySample]:
    """VisA, raw with ``split_csv/1cls.csv`` or prepared in MVTec form (below ``1cls`` or the root)."""
    table = root / "split_csv" / "1cls.csv"
    if table.is_file():
        return [_visa_sample(root, row, table) for row in _rows(table)]
    return mvtec(root / "1cls" if (root / "1cls").is_dir() else root)


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"not a readable table ({error})", where=table, hint="restore it") from error


def _visa_sample(root: Path, row: dict[str, str], table: Path) -> AnomalySample:
    try:
        label, split = {"normal": 0, "anomaly": 1}[row["label"]], row["split"]
        image, masks = root / row["image"], (root / row["mask"],) if row.get("mask") else ()
        part: Split = "train" if split == "train" else "test"
        return AnomalySample(image, masks, label, row["object"], "anomaly" if label else GOOD, part)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"a row has no valid {error}", where=table, hint="columns: object, split, label, image, mask"
        ) from error


def real_iad(root: Path) -> list[AnomalySample]:
    """Real-IAD: lists in ``realiad_jsons``, pictures in the finest ``realiad_<size>`` present."""
    lists = root / "realiad_jsons" / "realiad_jsons"
    lists = lists if lists.is_dir() else lists.parent
    sizes = [root / f"realiad_{size}" for size in (1024, 512, 256)]
    base = next((folder for folder in sizes if folder.is_dir()), None)
    if base is None or not lists.is_dir():
        raise DataError(
            "holds no realiad_<size> with realiad_jsons", where=root, hint="unpack pictures and lists here"
        )
    return [s for file in sorted(lists.glob("*.json")) for s in _real_iad_category(base, file)]


def _real_iad_category(base: Path, file: Path) -> list[AnomalySample]:
    content: Any = read_json(file)
    splits: tuple[Split, ...] = ("train", "test")
    try:
        folder = base / content.get("meta", {}).get("prefix", file.stem)
        return [
            _real_iad_sample(folder, item, file.stem, split) for split in splits for item in content[split]
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"not a Real-IAD list ({error})", where=file, hint="restore it") from error


def _real_iad_sample(folder: Path, item: dict[str, str], category: str, split: Split) -> AnomalySample:
    defect = GOOD if item["anomaly_class"].lower() in GOOD_NAMES else item["anomaly_class"]
    masks = (folder / item["mask_path"],) if item.get("mask_path") else ()
    return AnomalySample(folder / item["image_path"], masks, int(defect != GOOD), category, defect, split)


def ksdd(root: Path) -> list[AnomalySample]:
    """KolektorSDD: ``kosNN/PartN.jpg`` + ``PartN_label.bmp``; a share of the good ones trains."""
    folders = (folder for folder in subfolders(root) if folder.name.startswith("kos"))
    pairs = (pair for folder in folders for pair in pairs_in(folder))
    return _share(_from_masks(pairs, "ksdd", "test"), root)


def ksdd2(root: Path) -> list[AnomalySample]:
    """KolektorSDD2: ``{train,test}/NNNNN.png`` + ``NNNNN_GT.png``; train holds defects too."""
    splits: tuple[Split, ...] = ("train", "test")
    return [s for split in splits for s in _from_masks(pairs_in(root / split), "ksdd2", split)]


def mtd(root: Path) -> list[AnomalySample]:
    """Magnetic tiles: ``MT_<Defect>/Imgs/<stem>.jpg`` + ``.png``; a share of ``MT_Free`` trains."""
    samples = []
    for folder in subfolders(root):
        if not folder.name.startswith("MT_"):
            continue
        kind = folder.name.removeprefix("MT_").lower()
        label, defect = (0, GOOD) if kind == "free" else (1, kind)
        samples += [
            AnomalySample(image, masks, label, "mtd", defect, "test")
            for image, masks in pairs_in(folder / "Imgs")
        ]
    return _share(samples, root)


def spt(root: Path) -> list[AnomalySample]:
    """The SPT archive: ``<set>/{train,test}/<stem>.jpg`` + ``.png``; empty masks are left out."""
    splits: tuple[Split, ...] = ("train", "test")
    folders = [f for f in subfolders(root) if _is_mvtec(f)]
    samples = [
        sample
        for folder in folders
        for split in splits
        for sample in _from_masks(pairs_in(folder / split), folder.name, split)
    ]
    return [s for s in samples if s.label]


def _is_normal_abnormal(folder: Path) -> bool:
    return (folder / "normal").is_dir()


def _normal_abnormal(folder: Path, root: Path) -> list[AnomalySample]:
    masks = masks_in(folder / "masks")
    good = [AnomalySample(p, (), 0, folder.name, GOOD, "test") for p in pictures(folder / "normal")]
    bad = [
        AnomalySample(p, masks.get(p.stem, ()), 1, folder.name, "abnormal", "test")
        for p in pictures(folder / "abnormal")
    ]
    return _share(_some(good + bad, folder), root)


def plain(root: Path) -> list[AnomalySample]:
    """A plain folder: ``normal/`` with ``abnormal/`` and ``masks/`` if any, MVTec form, or folders of these.

    With ``abnormal`` pictures, a share of ``normal`` trains and the rest tests; without, all of it trains.
    """
    if _is_normal_abnormal(root):
        return _normal_abnormal(root, root)
    if _is_mvtec(root):
        return mvtec(root)
    inner = [_normal_abnormal(f, root) for f in subfolders(root) if _is_normal_abnormal(f)]
    return [s for samples in inner for s in samples] + mvtec(root)
