"""Mono3DRefer's files: descriptions of single objects in KITTI's pictures, and the published lists."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildsight.datasets.kitti import stems
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Description:
    """One description of one object.

    Attributes:
        name: unique in the set.
        image: the picture.
        calibration: its calibration file.
        columns: those of the object's KITTI label.
        text: the description.
        split: ``train``, ``val`` or ``test``; empty where no list names the picture.
        lists: those of the published split of the test that name the object; None where that is missing.
        where: its place in the file, for messages.
    """

    name: str
    image: Path
    calibration: Path
    columns: Sequence[Any]
    text: str
    split: str
    lists: tuple[str, ...] | None
    where: str


@dataclass(frozen=True)
class Listing:
    """The set's lists.

    Attributes:
        splits: split -> stems of its pictures.
        kinds: list of the published test split -> its objects; None where that file is missing.
    """

    splits: dict[str, set[str]]
    kinds: dict[str, set[str]] | None


def read_rows(root: Path) -> tuple[list[Any], Listing]:
    """The rows of ``Mono3DRefer.json``, unread, and the lists ``Mono3DRefer_{train,val,test}_image.txt``.

    Raises:
        DataError: a missing file, or one that does not fit.
    """
    rows = read_json(root / "Mono3DRefer.json")
    if not isinstance(rows, list):
        raise DataError("is no list", where=root / "Mono3DRefer.json", hint="restore it")
    splits = {s: stems(root / f"Mono3DRefer_{s}_image.txt") for s in SPLITS}
    special = root / "test_instanceID_split.json"
    return rows, Listing(splits, _kinds(special) if special.is_file() else None)


def _kinds(file: Path) -> dict[str, set[str]]:
    """The objects of each list of the published split of the test, ``unique`` always among them."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise DataError("is no object of lists", where=file, hint="restore it")
    return {"unique": set(), **{str(k).lower(): set(map(str, v)) for k, v in content.items()}}


def read_row(root: Path, number: int, row: Any, listing: Listing) -> Description:
    """The description of a row.

    Raises:
        DataError: a row that does not fit.
    """
    where = f"{root / 'Mono3DRefer.json'}:{number}"
    try:
        stem = Path(str(row["im_name"])).stem
        columns, text = row["label_2"], str(row["description"]).strip()
    except (KeyError, TypeError) as error:
        raise DataError(f"a row lacks {error}", where=where, hint="restore it") from error
    unlisted = "" if any(listing.splits.values()) else "train"
    split = next((s for s, names in listing.splits.items() if stem in names), unlisted)
    thing, kinds = str(row.get("instanceID")), listing.kinds
    return Description(
        f"{stem}#{row.get('instanceID', number)}-{row.get('ann_id', number)}",
        root / "images" / f"{stem}.png",
        root / "calib" / f"{stem}.txt",
        _literal(columns, where),
        text,
        split,
        None if kinds is None else tuple(k for k, own in kinds.items() if thing in own),
        where,
    )


def _literal(value: Any, where: str) -> Sequence[Any]:
    try:
        columns = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError) as error:
        raise DataError(f"label_2 is no list ({error})", where=where, hint="restore it") from error
    if not isinstance(columns, list | tuple):
        raise DataError("label_2 is no list", where=where, hint="restore it")
    return columns
