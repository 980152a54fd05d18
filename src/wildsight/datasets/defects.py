"""The benchmark folders of defect detection, each a function from a root folder to its pictures.

They index files and read no pixels, except where the set keeps its labels in the masks (KSDD, KSDD2, SPT).
The label comes from the folder or list, never from a resized mask: resizing can erase a small defect. Masks
are matched by stem in any picture format, with the suffixes of `wildsight.datasets.masks` tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from wildsight.datasets.folders import pictures, subfolders
from wildsight.datasets.lists import Row, read_json, read_table
from wildsight.datasets.masks import FOLDERS, GRADED, MaskRule, masks_in, pairs_in, read_mask
from wildsight.errors import DataError

Split = Literal["train", "validation", "test"]

GOOD = "good"
GOOD_NAMES = frozenset({"good", "ok", "normal"})
_TRAIN_TEST: tuple[Split, ...] = ("train", "test")
_PARTS: tuple[tuple[str, Split], ...] = (
    ("train", "train"),
    ("validation", "validation"),
    ("test", "test"),
    ("test_public", "test"),
)


@dataclass(frozen=True)
class DefectPicture:
    """One picture of a set of defects.

    Attributes:
        image: the picture.
        masks: its masks, whose union is the defect; empty when there are none.
        category: the product or surface shown.
        kind: the kind of defect, `GOOD` for good pictures.
        split: the part of the set's own protocol; None where it has none.
        rule: how its masks are read.
    """

    image: Path
    masks: tuple[Path, ...]
    category: str
    kind: str
    split: Split | None
    rule: MaskRule = GRADED

    @property
    def good(self) -> bool:
        """Whether it shows no defect."""
        return self.kind == GOOD


Pairs = Iterable[tuple[Path, tuple[Path, ...]]]
Layout = Callable[[Path, MaskRule], list[DefectPicture]]


def is_mvtec(folder: Path) -> bool:
    """Whether a folder is a category in MVTec form."""
    return any((folder / name).is_dir() for name in ("train", "test", "test_public"))


def has_masks(folder: Path) -> bool:
    """Whether a folder is a category in MVTec form with masks."""
    parts = (folder, folder / "test_public")
    return is_mvtec(folder) and any((part / "ground_truth").is_dir() for part in parts)


def mvtec(
    root: Path, rule: MaskRule = GRADED, chosen: Callable[[Path], bool] = is_mvtec
) -> list[DefectPicture]:
    """MVTec AD, AD 2, LOCO, AutoVI, BTAD, MPDD: ``<category>/{train,test,ground_truth}/<kind>``.

    ``validation`` and ``test_public`` (AD 2, with its own ``ground_truth``) are read where present, private
    test sets without truth are not. A folder per picture below ``ground_truth`` (LOCO, AutoVI) gives several
    masks.

    Args:
        root: a category, or a folder of categories.
        rule: of the masks.
        chosen: which folders are categories.

    Raises:
        DataError: a category without a picture.
    """
    folders = [root] if chosen(root) else [f for f in subfolders(root) if chosen(f)]
    return [p for folder in folders for p in _some(_category(folder, rule), folder)]


def _some(found: Iterable[DefectPicture], folder: Path) -> list[DefectPicture]:
    many = list(found)
    if not many:
        raise DataError("holds no pictures in the expected folders", where=folder, hint="check the layout")
    return many


def _category(folder: Path, rule: MaskRule) -> Iterator[DefectPicture]:
    for name, split in _PARTS:
        truth = folder / name / "ground_truth"
        truth = truth if truth.is_dir() else folder / "ground_truth"
        for kind in subfolders(folder / name):
            if kind.name in FOLDERS:
                continue
            good = kind.name.lower() in GOOD_NAMES
            masks = masks_in(truth / kind.name) if split == "test" else {}
            for image in pictures(kind):
                called = GOOD if good else kind.name
                yield DefectPicture(image, masks.get(image.stem, ()), folder.name, called, split, rule)


def visa(root: Path, rule: MaskRule = GRADED) -> list[DefectPicture]:
    """VisA, raw with ``split_csv/1cls.csv`` or prepared in MVTec form (below ``1cls`` or the root)."""
    table = root / "split_csv" / "1cls.csv"
    if table.is_file():
        rows = read_table(table, ("object", "split", "label", "image", "mask"))
        return [_visa_picture(root, row, table, rule) for row in rows]
    return mvtec(root / "1cls" if (root / "1cls").is_dir() else root, rule)


def _visa_picture(root: Path, row: Row, table: Path, rule: MaskRule) -> DefectPicture:
    kind = {"normal": GOOD, "anomaly": "anomaly"}.get(row["label"])
    if kind is None or not row["image"]:
        what = f"line {row.number} has no valid {'label' if kind is None else 'image'}"
        hint = "columns: object, split, label (normal, anomaly), image, mask"
        raise DataError(f"{what} ({row['label']!r})", where=table, hint=hint)
    masks = (root / row["mask"],) if row["mask"] else ()
    split: Split = "train" if row["split"] == "train" else "test"
    return DefectPicture(root / row["image"], masks, row["object"], kind, split, rule)


def real_iad(root: Path, rule: MaskRule = GRADED) -> list[DefectPicture]:
    """Real-IAD: lists in ``realiad_jsons``, pictures in the finest ``realiad_<size>`` present."""
    lists = root / "realiad_jsons" / "realiad_jsons"
    lists = lists if lists.is_dir() else lists.parent
    sizes = [root / f"realiad_{size}" for size in (1024, 512, 256)]
    base = next((folder for folder in sizes if folder.is_dir()), None)
    if base is None or not lists.is_dir():
        raise DataError(
            "holds no realiad_<size> with realiad_jsons", where=root, hint="unpack pictures and lists here"
        )
    return [p for file in sorted(lists.glob("*.json")) for p in _real_iad_category(base, file, rule)]


def _real_iad_category(base: Path, file: Path, rule: MaskRule) -> list[DefectPicture]:
    content: Any = read_json(file)
    try:
        folder = base / content.get("meta", {}).get("prefix", file.stem)
        return [
            _real_iad_picture(folder, item, file.stem, split, rule)
            for split in _TRAIN_TEST
            for item in content[split]
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"not a Real-IAD list ({error})", where=file, hint="restore it") from error


def _real_iad_picture(
    folder: Path, item: dict[str, str], category: str, split: Split, rule: MaskRule
) -> DefectPicture:
    kind = GOOD if item["anomaly_class"].lower() in GOOD_NAMES else item["anomaly_class"]
    masks = (folder / item["mask_path"],) if item.get("mask_path") else ()
    return DefectPicture(folder / item["image_path"], masks, category, kind, split, rule)


def labelled_by_mask(
    pairs: Pairs, category: str, split: Split | None, rule: MaskRule
) -> Iterator[DefectPicture]:
    """Pictures that are good where their full-size masks are empty."""
    for image, masks in pairs:
        kind = "defect" if any(_marked(mask, rule) for mask in masks) else GOOD
        yield DefectPicture(image, masks, category, kind, split, rule)


def _marked(mask: Path, rule: MaskRule) -> bool:
    """Whether a mask marks anything; so does one whose classes cannot be told apart, which is named later."""
    try:
        return bool(read_mask(mask, replace(rule, graded=True)).any())
    except DataError:
        return True


def ksdd(root: Path, rule: MaskRule = GRADED) -> list[DefectPicture]:
    """KolektorSDD: ``kosNN/PartN.jpg`` + ``PartN_label.bmp``; a picture with an empty mask is good."""
    folders = (folder for folder in subfolders(root) if folder.name.startswith("kos"))
    pairs = (pair for folder in folders for pair in pairs_in(folder))
    return list(labelled_by_mask(pairs, "ksdd", None, rule))


def ksdd2(root: Path, rule: MaskRule = GRADED) -> list[DefectPicture]:
    """KolektorSDD2: ``{train,test}/NNNNN.png`` + ``NNNNN_GT.png``; pictures with an empty mask are good."""
    parts = (labelled_by_mask(pairs_in(root / split), "ksdd2", split, rule) for split in _TRAIN_TEST)
    return [p for part in parts for p in part]


def mtd(root: Path, rule: MaskRule = GRADED) -> list[DefectPicture]:
    """Magnetic tiles: ``MT_<Defect>/Imgs/<stem>.jpg`` + ``.png``; ``MT_Free`` is good."""
    found = []
    for folder in subfolders(root):
        if folder.name.startswith("MT_"):
            kind = folder.name.removeprefix("MT_").lower()
            kind = GOOD if kind == "free" else kind
            found += [DefectPicture(i, m, "mtd", kind, None, rule) for i, m in pairs_in(folder / "Imgs")]
    return found


def spt(root: Path, rule: MaskRule = GRADED) -> list[DefectPicture]:
    """The SPT archive: ``<set>/{train,test}/<stem>.jpg`` + ``.png``; empty masks are left out."""
    parts = (
        labelled_by_mask(pairs_in(folder / split), folder.name, split, rule)
        for folder in subfolders(root)
        if is_mvtec(folder)
        for split in _TRAIN_TEST
    )
    return [p for part in parts for p in part if not p.good]
