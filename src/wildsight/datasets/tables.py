"""A CSV of pictures: one row a picture (or scene), with what each task asks in its columns.

A cell that ends like a picture file names one, from the CSV's folder on; it has to be there. ``split`` is
train, validation (val, valid) or test; without it a task splits as it does plain folders. Which other columns
count is the task's: ``image``, ``label``, ``mask``, ``category`` for defects, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from wildsight.datasets.defects import GOOD, GOOD_NAMES, DefectPicture, Split
from wildsight.datasets.faults import Faults
from wildsight.datasets.folders import class_name
from wildsight.datasets.lists import Row, read_table
from wildsight.datasets.masks import MaskRule, declared
from wildsight.errors import DataError
from wildsight.images import SUFFIXES

SPLITS: Mapping[str, Split] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "test": "test",
}  # fmt: skip


@dataclass(frozen=True)
class PictureRow:
    """One row.

    Attributes:
        number: its line.
        values: column -> text; empty where there is none.
        files: column -> the pictures that it names, several of them where `|` stands between.
        split: its part; None where the column is missing or empty.
    """

    number: int
    values: Mapping[str, str]
    files: Mapping[str, tuple[Path, ...]]
    split: Split | None

    @property
    def image(self) -> Path:
        """The picture of the column ``image``."""
        return self.files["image"][0]


@dataclass(frozen=True)
class PictureTable:
    """A table of pictures.

    Attributes:
        file: the CSV; pictures lie below its folder.
        columns: of its header.
        rows: those that can be used.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[PictureRow, ...]

    @property
    def root(self) -> Path:
        """The folder that paths are named from."""
        return self.file.parent

    def need(self, *columns: str) -> PictureTable:
        """The same table; every row has a value in each of these columns.

        Raises:
            DataError: a column is missing, or a cell is empty.
        """
        lacking = [c for c in columns if c not in self.columns]
        if lacking:
            hint = f"add it; this task reads {', '.join(columns)}"
            raise DataError(f"has no column {lacking[0]!r}", where=self.file, hint=hint)
        for row in self.rows:
            for column in columns:
                if not row.values[column] or (column == "image" and column not in row.files):
                    what = f"line {row.number} has no {column}"
                    raise DataError(what, where=self.file, hint="fill it in, or delete the line")
        return self


def read(file: Path, faults: Faults) -> PictureTable:
    """``FILE.csv`` with its pictures below its folder.

    Raises:
        DataError: no table or an empty one; or a row that does not fit, unless ``faults`` notes it.
    """
    rows: list[PictureRow] = []
    table = read_table(file, ())
    if not table:
        raise DataError("holds no row", where=file, hint="write a header and a row for each picture")
    first: dict[Path, int] = {}
    for row in table:
        with faults.each(file):
            made = _row(row, file)
            for image in made.files.get("image", ()):
                if first.setdefault(image, row.number) != row.number:
                    what = f"line {row.number} names {row['image']} again, after line {first[image]}"
                    raise DataError(what, where=file, hint="keep one row per picture")
            rows.append(made)
    return PictureTable(file, tuple(table[0].values), tuple(rows))


def _row(row: Row, file: Path) -> PictureRow:
    files = {}
    for column, text in row.values.items():
        names = [part.strip() for part in text.split("|")]
        if all(Path(name).suffix.lower() in SUFFIXES for name in names):
            files[column] = tuple(_picture(name, row.number, file) for name in names)
    word = row.values.get("split", "").lower()
    if word and word not in SPLITS:
        what = f"line {row.number} has the unknown split {row['split']!r}"
        raise DataError(what, where=file, hint="write train, validation or test")
    return PictureRow(row.number, row.values, files, SPLITS.get(word))


def _picture(name: str, number: int, file: Path) -> Path:
    path = Path(os.path.normpath(file.parent / PureWindowsPath(name).as_posix()))
    if not path.is_relative_to(file.parent):
        what, hint = f"line {number} names {name}, which is not below its folder", "move it there"
        raise DataError(what, where=file, hint=hint)
    if not path.is_file():
        what = f"line {number} names {name}, which is not there"
        raise DataError(what, where=file, hint="correct the path, or delete the line")
    return path


def defects_of(table: PictureTable, rule: MaskRule) -> list[DefectPicture]:
    """Pictures of defects: ``image``, and ``label`` (good, ok, normal or a kind), ``mask``, ``category``.

    Without a label a picture is good where it has no mask.

    Raises:
        DataError: a column or picture is missing.
    """
    product = table.root.resolve().name or "all"
    rule = declared(table.root, rule)
    found = []
    for row in table.need("image").rows:
        masks = row.files.get("mask", ())
        label = class_name(row.values.get("label", "")) or ("defect" if masks else GOOD)
        kind = GOOD if label.lower() in GOOD_NAMES else label
        category = class_name(row.values.get("category", "")) or product
        found.append(DefectPicture(row.image, masks, category, kind, row.split, rule))
    return found
