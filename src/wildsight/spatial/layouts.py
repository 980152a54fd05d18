"""Readers of KITTI object, Mono3DRefer and Omni3D; no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import ConfigError, DataError
from wildsight.files import read_json
from wildsight.images import image_size, list_images
from wildsight.spatial.boxes import Box, checked
from wildsight.spatial.camera import Camera, read_calibration
from wildsight.spatial.captions import expressions, leaks
from wildsight.spatial.faults import Faults
from wildsight.spatial.iou3d import box_of_corners
from wildsight.spatial.samples import SpatialData, SpatialSample, Split, protocol, split_of

COLUMNS = 15
NOT_AN_OBJECT = ("dontcare", "ignore", "void")
MAX_DEPTH = 1e5


def kitti_box(columns: Sequence[Any], where: Any) -> Box | None:
    """The box of a KITTI label line; None for what is not an object.

    Raises:
        DataError: columns that are missing or no numbers.
    """
    if len(columns) < COLUMNS:
        raise DataError(f"{len(columns)} columns, not {COLUMNS}", where=where, hint="restore the label")
    name = str(columns[0]).lower()
    if name in NOT_AN_OBJECT:
        return None
    try:
        h, w, length, x, y, z, ry = (float(v) for v in columns[8:15])
    except ValueError as error:
        raise DataError(f"not numbers ({error})", where=where, hint="restore the label") from error
    return checked(Box.from_kitti((h, w, length), (x, y, z), ry, name), where)


def _moved(box: Box, offset: Any) -> Box:
    return Box(box.centre + offset, box.size, box.rotation, box.name)


def read_kitti(root: Path, faults: Faults | None = None) -> SpatialData:
    """KITTI object: ``[training/]image_2 label_2 calib``, and optionally ``ImageSets/{train,val}.txt``.

    Boxes are moved from the reference camera to camera 2 (P2's last column). Expressions are made by rule.

    Raises:
        DataError: a missing folder or file, or one that does not fit.
    """
    base = root / "training" if (root / "training").is_dir() else root
    for name in ("image_2", "label_2", "calib"):
        if not (base / name).is_dir():
            raise DataError("no such folder", where=base / name, hint="name KITTI's object folder")
    lists = {s: _stems(root / "ImageSets" / f"{s}.txt") for s in ("train", "val")}
    faults, left = faults or Faults(), 0
    samples: list[SpatialSample] = []
    for file in list_images(base / "image_2"):
        if lists["train"] and not any(file.stem in stems for stems in lists.values()):
            left += 1
            continue
        split: Split = (
            "test" if file.stem in lists["val"] else "train" if lists["train"] else split_of(file.stem)
        )
        with faults.each(root):
            boxes = kitti_labels(base / "label_2" / f"{file.stem}.txt", faults)
            camera, offset = read_calibration(base / "calib" / f"{file.stem}.txt", image_size(file))
            samples += asked_by_rule(file, camera, [_moved(b, offset) for b in boxes], split)
    rule = (
        "ImageSets: val is the test split" if lists["train"] else "one frame in five, by hash, is for testing"
    )
    facts = protocol(samples, rule, expressions="by rule", frame="camera 2", in_neither_list=left)
    return SpatialData(f"kitti:{root}", root, tuple(samples), facts)


def kitti_labels(file: Path, faults: Faults | None = None) -> list[Box]:
    """The boxes of a label file, before KITTI's reference camera."""
    faults = faults or Faults()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=file, hint="restore it") from error
    found: list[Box | None] = []
    for number, line in enumerate(lines, start=1):
        with faults.each(file):
            found.append(kitti_box(line.split(), f"{file}:{number}") if line.strip() else None)
    return [b for b in found if b is not None]


def _stems(file: Path) -> set[str]:
    return set(file.read_text(encoding="utf-8").split()) if file.is_file() else set()


def asked_by_rule(file: Path, camera: Camera, boxes: Sequence[Box], split: Split) -> Iterator[SpatialSample]:
    """One question per expression that fits a single box of the picture."""
    for number, (index, kind, text) in enumerate(expressions(boxes, camera)):
        others = tuple(b for i, b in enumerate(boxes) if i != index)
        name = f"{file.stem}#{number}"
        yield SpatialSample(name, file, camera, text, (boxes[index],), others, split, kind)


def read_mono3drefer(root: Path, faults: Faults | None = None) -> SpatialData:
    """Mono3DRefer: ``images calib Mono3DRefer.json Mono3DRefer_{train,val,test}_image.txt``.

    Groups are ``unique`` or ``multiple`` where ``test_instanceID_split.json`` is there, then ``leaks``
    where the description states measures; its other lists (near, medium, far, easy, moderate, hard) are
    further subsets. Every description counts, as in the published protocol.

    Raises:
        DataError: a missing file, or one that does not fit.
    """
    faults, rows = faults or Faults(), read_json(root / "Mono3DRefer.json")
    if not isinstance(rows, list):
        raise DataError("is no list", where=root / "Mono3DRefer.json", hint="restore it")
    lists = {s: _stems(root / f"Mono3DRefer_{s}_image.txt") for s in ("train", "val", "test")}
    special = root / "test_instanceID_split.json"
    kinds = _refer_kinds(special) if special.is_file() else None
    cameras: dict[str, tuple[Camera, Any]] = {}
    every: list[SpatialSample] = []
    for number, row in enumerate(rows):
        with faults.each(root):
            every += _refer_row(root, number, row, lists, kinds, cameras)
    samples = [s for s in every if s.split]
    told = {"leaking": sum(leaks(s.expression) for s in samples), "in_no_list": len(every) - len(samples)}
    facts = protocol(samples, "the published lists", **told)
    return SpatialData(f"mono3drefer:{root}", root, tuple(samples), facts)


def _refer_row(
    root: Path,
    number: int,
    row: Any,
    lists: Mapping[str, set[str]],
    kinds: Mapping[str, set[str]] | None,
    cameras: dict[str, tuple[Camera, Any]],
) -> Iterator[SpatialSample]:
    """The question of one row, if it has a box; without a split where no list names its picture. ``cameras``
    keeps those of the pictures met."""
    where = f"{root / 'Mono3DRefer.json'}:{number}"
    try:
        stem = Path(str(row["im_name"])).stem
        columns, text = row["label_2"], str(row["description"]).strip()
    except (KeyError, TypeError) as error:
        raise DataError(f"a row lacks {error}", where=where, hint="restore it") from error
    file = root / "images" / f"{stem}.png"
    if stem not in cameras:
        cameras[stem] = read_calibration(root / "calib" / f"{stem}.txt", image_size(file))
    camera, offset = cameras[stem]
    box = kitti_box(_literal(columns, where), where)
    split = next((s for s, stems in lists.items() if stem in stems), "" if any(lists.values()) else "train")
    if box is not None and text:
        name = f"{stem}#{row.get('instanceID', number)}-{row.get('ann_id', number)}"
        thing = str(row.get("instanceID"))
        subsets = tuple(k for k, own in (kinds or {}).items() if thing in own)
        group = _refer_group(thing, kinds, text)
        target = (_moved(box, offset),)
        yield SpatialSample(name, file, camera, text, target, (), split, group, subsets=subsets)  # type: ignore[arg-type]


def _literal(value: Any, where: str) -> Sequence[Any]:
    try:
        columns = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError) as error:
        raise DataError(f"label_2 is no list ({error})", where=where, hint="restore it") from error
    if not isinstance(columns, list | tuple):
        raise DataError("label_2 is no list", where=where, hint="restore it")
    return columns


def _refer_kinds(file: Path) -> dict[str, set[str]]:
    """The objects of each list of the published split of the test, ``unique`` always among them."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise DataError("is no object of lists", where=file, hint="restore it")
    return {"unique": set(), **{str(k).lower(): set(map(str, v)) for k, v in content.items()}}


def _refer_group(thing: str, kinds: Mapping[str, set[str]] | None, text: str) -> str:
    told = [] if kinds is None else ["unique" if thing in kinds["unique"] else "multiple"]
    return " ".join([*told, *(["leaks"] if leaks(text) else [])])


@dataclass(frozen=True)
class IgnoreRule:
    """Which annotations of Omni3D are not used; the defaults are those of its evaluation.

    Attributes:
        min_height: of the 2D box, share of the picture's height; a box is ignored at or below it.
        max_height: likewise; ignored at or above it.
        truncation: ignored at or above it, where stated.
        visibility: ignored at or below it, where stated.
        depth_error: ignored above it, where stated, metres.
    """

    min_height: float = 0.05
    max_height: float = 1.5
    truncation: float = 1 / 3
    visibility: float = 1 / 3
    depth_error: float = 0.5

    def ignores(self, note: Mapping[str, Any], height: float) -> bool:
        """Whether annotation ``note`` of a picture ``height`` pixels high is left out."""
        box = bbox_2d(note)
        tall = (box[3] - box[1]) / height if box is not None else 0.0
        return (
            bool(note.get("behind_camera"))
            or not note.get("valid3D", True)
            or min(note.get("dimensions", [0])) <= 0
            or note.get("center_cam", [0, 0, 0])[2] > MAX_DEPTH
            or note.get("lidar_pts") == 0
            or note.get("segmentation_pts") == 0
            or note.get("depth_error", -1) > self.depth_error
            or not self.min_height < tall < self.max_height
            or note.get("truncation", -1) >= self.truncation
            or 0 <= note.get("visibility", -1) <= self.visibility
            or str(note.get("category_name", "")).lower() in NOT_AN_OBJECT
        )


TRAINING = IgnoreRule(truncation=0.75, visibility=0.25)
EVALUATION = IgnoreRule()


def bbox_2d(note: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom): the tight box, else the truncated, else the projected one."""
    for key in ("bbox2D_tight", "bbox2D_trunc", "bbox2D_proj"):
        box = note.get(key)
        if box is not None and len(box) == 4 and not all(v == -1 for v in box):
            left, top, right, bottom = (float(v) for v in box)
            return left, top, right, bottom
    return None


def read_omni3d(root: Path, faults: Faults | None = None) -> SpatialData:
    """Omni3D: ``Omni3D/NAME_{train,val,test}.json``; pictures by their ``file_path`` below ``root``.

    Annotations of the ignore rule are left out: that of training, or that of the evaluation. Expressions are
    made by rule.

    Raises:
        DataError: no such file, a picture that is missing, or an annotation that does not fit.
    """
    folder = root / "Omni3D" if (root / "Omni3D").is_dir() else root
    files = sorted(f for f in folder.glob("*.json") if f.stem.rpartition("_")[2] in ("train", "val", "test"))
    if not files:
        raise DataError(
            "holds no NAME_train.json or NAME_test.json", where=folder, hint="name Omni3D's folder"
        )
    samples: list[SpatialSample] = []
    ignored = 0
    faults = faults or Faults()
    for file in files:
        with faults.each(root):
            found, left = _omni3d_file(root, file, faults)
            samples += found
            ignored += left
    facts = protocol(samples, "the published files", expressions="by rule", ignored=ignored)
    return SpatialData(f"omni3d:{root}", root, tuple(samples), facts)


def _omni3d_file(root: Path, file: Path, faults: Faults) -> tuple[list[SpatialSample], int]:
    source, _, split = file.stem.rpartition("_")
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError("is no object with images and annotations", where=file, hint="restore it")
    notes: dict[Any, list[Mapping[str, Any]]] = {}
    for note in content.get("annotations", []):
        with faults.each(file):
            notes.setdefault(_entry(note, "image_id", "an annotation", file), []).append(note)
    samples: list[SpatialSample] = []
    ignored = 0
    for image in content.get("images", []):
        with faults.each(file):
            number = _entry(image, "id", "an image", file)
            picture, camera = _omni3d_image(root, image, file)
            rule = TRAINING if split == "train" else EVALUATION
            boxes, left = _omni3d_boxes(notes.get(number, []), camera, rule, file, faults)
            ignored += left
            for sample in asked_by_rule(picture, camera, boxes, split):  # type: ignore[arg-type]
                name = f"{source}/{number}#{sample.name.rpartition('#')[2]}"
                samples.append(replace(sample, name=name, group=f"{source} {sample.group}"))
    return samples, ignored


def _entry(row: Any, key: str, kind: str, file: Path) -> Any:
    if not isinstance(row, dict) or key not in row:
        raise DataError(f"{kind} lacks {key!r}", where=file, hint="restore it")
    return row[key]


def _omni3d_image(root: Path, image: Mapping[str, Any], file: Path) -> tuple[Path, Camera]:
    try:
        camera = Camera.from_matrix(image["K"], int(image["width"]), int(image["height"]), "calibration")
        return root / str(image["file_path"]), camera
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"an image is incomplete ({error})", where=file, hint="restore it") from error
    except ConfigError as error:
        raise DataError(f"image {image.get('id')}: {error.what}", where=file, hint="restore it") from error


def _omni3d_boxes(
    notes: Sequence[Mapping[str, Any]], camera: Camera, rule: IgnoreRule, file: Path, faults: Faults
) -> tuple[list[Box], int]:
    """The boxes of one picture that are used, and how many are not."""
    boxes: list[Box] = []
    ignored = 0
    for note in notes:
        with faults.each(file):
            try:
                left_out = rule.ignores(note, camera.height)
            except (TypeError, ValueError, IndexError) as error:
                raise DataError(
                    f"an annotation is damaged ({error})", where=file, hint="restore it"
                ) from error
            if left_out:
                ignored += 1
            else:
                boxes.append(_omni3d_box(note, file))
    return boxes, ignored


def _omni3d_box(note: Mapping[str, Any], file: Path) -> Box:
    name = str(note.get("category_name", ""))
    try:
        if "center_cam" in note:
            return checked(Box.from_omni3d(note["center_cam"], note["dimensions"], note["R_cam"], name), file)
        centre, size, rotation = box_of_corners(np.asarray([note["bbox3D_cam"]], float))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"an annotation is incomplete ({error})", where=file, hint="restore it") from error
    return checked(Box(centre[0], size[0], rotation[0], name), file)
