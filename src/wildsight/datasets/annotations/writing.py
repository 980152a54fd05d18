"""From what a model marked to a folder that an annotation tool opens, and that a source reads again.

``coco/annotations.json``, ``yolo/data.yaml`` and ``labels/``, ``labelme/NAME.json``, ``labelstudio/`` with
``tasks.json`` and ``label_config.xml``; copies of the pictures lie beside them. A mask is written as polygons
along the edges of its pixels, or as runs (LabelMe: as a bitmap); both give the same mask back.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wildsight.datasets.annotations import brush
from wildsight.datasets.annotations.outlines import polygons_of
from wildsight.datasets.annotations.regions import Place, coco_masks, of_mask
from wildsight.errors import ConfigError
from wildsight.files import atomic_folder
from wildsight.images import SUFFIXES, image_size, load_image
from wildsight.results import Mark

POLYGON, RLE = "polygon", "rle"
OUTLINES = (POLYGON, RLE)
MOST_NAME = 200
"""Characters of a copied picture's name."""


class Marked(Protocol):
    """A result that marks parts of its picture."""

    @property
    def image(self) -> Path | None:
        """The picture's file."""

    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:
        """The parts, each with a mask of the picture's size (width, height)."""


@dataclass(frozen=True)
class MarkedPicture:
    """A picture with its marks.

    Attributes:
        file: where it is.
        name: what its copy is called.
        size: (width, height), pixels, upright.
        marks: the parts of it that are marked; empty ones are left out.
    """

    file: Path
    name: str
    size: tuple[int, int]
    marks: tuple[Mark, ...]

    @cached_property
    def polygons(self) -> list[list[NDArray[np.float64]]]:
        """The outlines of each mark."""
        return [polygons_of(mark.mask) for mark in self.marks]


Pictures = Sequence[MarkedPicture]


def check_formats(formats: Sequence[str], outline: str = POLYGON) -> None:
    """Refuse what cannot be written, before any work.

    Raises:
        ConfigError: an unknown format or outline, runs in YOLO's files, or a package that is not installed.
    """
    for name in formats:
        if name not in WRITERS:
            hint = f"use one of {', '.join(WRITERS)}"
            raise ConfigError(f"no annotation format is called {name!r}", hint=hint)
    if outline not in OUTLINES:
        raise ConfigError(f"no outline is called {outline!r}", hint=f"use one of {', '.join(OUTLINES)}")
    if outline == RLE and "yolo" in formats:
        raise ConfigError("YOLO's files hold polygons alone", hint="leave out the outline rle")
    coco_masks()


def write_annotations(
    results: Sequence[Marked], out: str | Path, formats: Sequence[str], *, outline: str = POLYGON
) -> list[Path]:
    """Write what results mark, one folder a format.

    Args:
        results: of pictures that are files.
        out: ``out/coco`` and so on are made; earlier ones of ours are replaced, anything else refused.
        formats: names of `WRITERS`.
        outline: ``polygon`` or ``rle``.

    Returns:
        The file of each format, or its folder, as a source names it.

    Raises:
        ConfigError: as `check_formats`, or a result whose picture is no file.
        ImageError: a picture cannot be read.
    """
    check_formats(formats, outline)
    pictures = _marked(results)
    written = []
    for name in dict.fromkeys(formats):
        with atomic_folder(Path(out) / name) as folder:
            inside = WRITERS[name](pictures, folder, outline)
        written.append(Path(out) / name / inside)
    return written


def _marked(results: Sequence[Marked]) -> list[MarkedPicture]:
    pictures: list[MarkedPicture] = []
    taken: set[str] = set()
    for number, result in enumerate(results):
        if result.image is None:
            raise ConfigError("the picture is not known", hint="predict for files")
        file = Path(result.image)
        name = file.name if file.stem.casefold() not in taken else f"{number:05d}-{file.name}"
        ending = file.suffix if file.suffix.lower() in SUFFIXES else ".png"  # a page is a picture of its own
        name = f"{name.removesuffix(ending)[:MOST_NAME]}{ending}"
        taken.add(Path(name).stem.casefold())
        size = image_size(file)
        marks = tuple(mark for mark in result.marks(size) if mark.mask.any())
        if any(mark.mask.shape != size[::-1] for mark in marks):
            what = f"is {size[0]} x {size[1]}, what is marked in it is not"
            raise ConfigError(what, where=file, hint="predict for the file itself")
        pictures.append(MarkedPicture(file, name, size, marks))
    return pictures


def _labels(pictures: Pictures) -> list[str]:
    return sorted({mark.label for picture in pictures for mark in picture.marks}) or ["defect"]


def _copy(pictures: Pictures, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for picture in pictures:
        if picture.file.is_file():
            shutil.copyfile(picture.file, folder / picture.name)
        else:
            load_image(picture.file).save(folder / picture.name)


def _json(file: Path, value: object) -> None:
    """Write JSON; that the folder is whole or absent is seen to above."""
    file.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom; the last two are the first outside."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _coco(pictures: Pictures, folder: Path, outline: str) -> str:
    """``annotations.json`` and ``images/``."""
    _copy(pictures, folder / "images")
    names = _labels(pictures)
    images: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        width, height = picture.size
        images.append({"id": number, "file_name": picture.name, "width": width, "height": height})
        for mark, segmentation in zip(picture.marks, _segmentations(picture, outline), strict=True):
            left, top, right, bottom = _bounds(mark.mask)
            note: dict[str, Any] = {
                "id": len(notes) + 1,
                "image_id": number,
                "category_id": names.index(mark.label) + 1,
            }
            note |= {"segmentation": segmentation, "area": int(mark.mask.sum())}
            note |= {"bbox": [left, top, right - left, bottom - top], "iscrowd": 0}
            notes.append(note | ({} if mark.score is None else {"score": mark.score}))
    kinds = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    _json(folder / "annotations.json", {"images": images, "annotations": notes, "categories": kinds})
    return "annotations.json"


def _segmentations(picture: MarkedPicture, outline: str) -> list[Any]:
    if outline == POLYGON:
        return [[points.ravel().tolist() for points in polygons] for polygons in picture.polygons]
    runs = [of_mask(mark.mask, Place(Path())) for mark in picture.marks]
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in runs]


def _yolo(pictures: Pictures, folder: Path, outline: str) -> str:  # noqa: ARG001  polygons alone
    """``data.yaml``, ``images/`` and ``labels/``."""
    _copy(pictures, folder / "images")
    names = _labels(pictures)
    (folder / "labels").mkdir()
    for picture in pictures:
        lines = [
            f"{names.index(mark.label)} {' '.join(f'{v:.6f}' for v in (points / picture.size).ravel())}\n"
            for mark, polygons in zip(picture.marks, picture.polygons, strict=True)
            for points in polygons
        ]
        (folder / "labels" / f"{Path(picture.name).stem}.txt").write_text("".join(lines), encoding="utf-8")
    listed = "".join(f"  {number}: {_quoted(name)}\n" for number, name in enumerate(names))
    text = f"path: .\ntrain: images\nval: images\nnames:\n{listed}"
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return ""


def _quoted(text: str) -> str:
    """A string of YAML, which JSON's are."""
    return json.dumps(text, ensure_ascii=False)


def _labelme(pictures: Pictures, folder: Path, outline: str) -> str:
    """``NAME.json`` beside each picture."""
    _copy(pictures, folder)
    for picture in pictures:
        shapes = _bitmaps(picture) if outline == RLE else _parts(picture)
        whole: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": picture.name}
        whole |= {"imageData": None, "imageHeight": picture.size[1], "imageWidth": picture.size[0]}
        _json(folder / f"{Path(picture.name).stem}.json", whole)
    return ""


def _shape(label: str, kind: str, points: Any, group: int | None = None, **more: Any) -> dict[str, Any]:
    common: dict[str, Any] = {"label": label, "description": "", "flags": {}, "group_id": group}
    return {**common, "shape_type": kind, "points": points, **more}


def _parts(picture: MarkedPicture) -> list[dict[str, Any]]:
    """A polygon for each part of each mark; the parts of one mark are one group."""
    return [
        _shape(mark.label, "polygon", points.tolist(), number if polygons[1:] else None)
        for number, (mark, polygons) in enumerate(zip(picture.marks, picture.polygons, strict=True), start=1)
        for points in polygons
    ]


def _bitmaps(picture: MarkedPicture) -> list[dict[str, Any]]:
    """A bitmap for each mark, from its upper left corner on."""
    shapes = []
    for mark in picture.marks:
        left, top, right, bottom = _bounds(mark.mask)
        drawn = io.BytesIO()
        Image.fromarray(mark.mask[top:bottom, left:right]).save(drawn, format="PNG")
        corners = [[left, top], [right - 1, bottom - 1]]
        shapes.append(_shape(mark.label, "mask", corners, mask=base64.b64encode(drawn.getvalue()).decode()))
    return shapes


def _labelstudio(pictures: Pictures, folder: Path, outline: str) -> str:
    """``tasks.json``, ``label_config.xml`` for the project, and ``images/``."""
    _copy(pictures, folder / "images")
    tasks: list[dict[str, Any]] = [
        {
            "id": number,
            "data": {"image": f"/data/local-files/?d=images/{quote(picture.name)}"},
            "annotations": [{"id": number, "result": _results(picture, outline)}],
        }
        for number, picture in enumerate(pictures, start=1)
    ]
    _json(folder / "tasks.json", tasks)
    kind = "Polygon" if outline == POLYGON else "Brush"
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in _labels(pictures))
    view = f'  <Image name="image" value="$image"/>\n  <{kind}Labels name="label" toName="image">\n{labels}'
    text = f"<View>\n{view}  </{kind}Labels>\n</View>\n"
    (folder / "label_config.xml").write_text(text, encoding="utf-8")
    return "tasks.json"


def _results(picture: MarkedPicture, outline: str) -> list[dict[str, Any]]:
    """One result a polygon, or one a mask."""
    kind = "brushlabels" if outline == RLE else "polygonlabels"
    values: list[tuple[Mark, dict[str, Any]]]
    if outline == RLE:
        values = [(mark, {"format": "rle", "rle": brush.encode(mark.mask)}) for mark in picture.marks]
    else:
        values = [
            (mark, {"points": (100 * points / picture.size).tolist(), "closed": True})
            for mark, polygons in zip(picture.marks, picture.polygons, strict=True)
            for points in polygons
        ]
    return [
        {
            "id": f"mark{number}", "from_name": "label", "to_name": "image", "type": kind,
            "value": {**value, kind: [mark.label]}, "original_width": picture.size[0],
            "original_height": picture.size[1], "image_rotation": 0,
            **({} if mark.score is None else {"score": mark.score}),
        }
        for number, (mark, value) in enumerate(values, start=1)
    ]  # fmt: skip


WRITERS: Mapping[str, Callable[[Pictures, Path, str], str]] = {
    "coco": _coco,
    "yolo": _yolo,
    "labelme": _labelme,
    "labelstudio": _labelstudio,
}
"""Format -> what writes it into a folder and returns the file to name in a source."""
