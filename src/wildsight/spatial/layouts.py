"""Readers of KITTI object, Mono3DRefer and Omni3D; no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import DataError
from wildsight.files import read_json
from wildsight.images import image_size, list_images
from wildsight.spatial.boxes import Box, checked
from wildsight.spatial.camera import Camera, read_calibration
from wildsight.spatial.captions import expressions, leaks
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
        raise DataError(f"{len(columns)} columns, not {COLUMNS}", where=where, mend="restore the label")
    name = str(columns[0]).lower()
    if name in NOT_AN_OBJECT:
        return None
    try:
        h, w, length, x, y, z, ry = (float(v) for v in columns[8:15])
    except ValueError as error:
        raise DataError(f"not numbers ({error})", where=where, mend="restore the label") from error
    return checked(Box.from_kitti((h, w, length), (x, y, z), ry, name), where)


def _moved(box: Box, offset: Any) -> Box:
    return Box(box.centre + offset, box.size, box.rotation, box.name)


def read_kitti(root: Path) -> SpatialData:
    """KITTI object: ``[training/]image_2 label_2 calib``, and optionally ``ImageSets/{train,val}.txt``.

    Boxes are moved from the reference camera to camera 2 (P2's last column). Expressions are made by rule.

    Raises:
        DataError: a missing folder or file, or one that does not fit.
    """
    base = root / "training" if (root / "training").is_dir() else root
    for name in ("image_2", "label_2", "calib"):
        if not (base / name).is_dir():
            raise DataError("no such folder", where=base / name, mend="name KITTI's object folder")
    lists = {s: _stems(root / "ImageSets" / f"{s}.txt") for s in ("train", "val")}
    samples: list[SpatialSample] = []
    for file in list_images(base / "image_2"):
        camera, offset = read_calibration(base / "calib" / f"{file.stem}.txt", image_size(file))
        boxes = [_moved(b, offset) for b in kitti_labels(base / "label_2" / f"{file.stem}.txt")]
        split: Split = (
            "test" if file.stem in lists["val"] else "train" if lists["train"] else split_of(file.stem)
        )
        samples += asked_by_rule(file, camera, boxes, split)
    rule = (
        "ImageSets: val is the test split" if lists["train"] else "one frame in five, by hash, is for testing"
    )
    facts = protocol(samples, rule, expressions="by rule", frame="camera 2")
    return SpatialData(f"kitti:{root}", root, tuple(samples), facts)


def kitti_labels(file: Path) -> list[Box]:
    """The boxes of a label file, before KITTI's reference camera."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=file, mend="restore it") from error
    found = [kitti_box(line.split(), f"{file}:{i}") for i, line in enumerate(lines, start=1) if line.strip()]
    return [b for b in found if b is not None]


def _stems(file: Path) -> set[str]:
    return set(file.read_text(encoding="utf-8").split()) if file.is_file() else set()


def asked_by_rule(file: Path, camera: Camera, boxes: Sequence[Box], split: Split) -> Iterator[SpatialSample]:
    """One question per expression that fits a single box of the picture."""
    for number, (index, kind, text) in enumerate(expressions(boxes, camera)):
        others = tuple(b for i, b in enumerate(boxes) if i != index)
        name = f"{file.stem}#{number}"
        yield SpatialSample(name, file, camera, text, (boxes[index],), others, split, kind)


def read_mono3drefer(root: Path) -> SpatialData:
    """Mono3DRefer: ``images calib Mono3DRefer.json Mono3DRefer_{train,val,test}_image.txt``.

    Groups are ``unique`` or ``multiple`` where ``test_instanceID_split.json`` is there, then ``leaks``
    where the description states measures. Every description counts, as in the published protocol.

    Raises:
        DataError: a missing file, or one that does not fit.
    """
    rows = read_json(root / "Mono3DRefer.json")
    if not isinstance(rows, list):
        raise DataError("is no list", where=root / "Mono3DRefer.json", mend="restore it")
    lists = {s: _stems(root / f"Mono3DRefer_{s}_image.txt") for s in ("train", "val", "test")}
    special = root / "test_instanceID_split.json"
    unique = set(map(str, read_json(special).get("Unique", []))) if special.is_file() else None
    cameras: dict[str, tuple[Camera, Any]] = {}
    samples = []
    for number, row in enumerate(rows):
        where = f"{root / 'Mono3DRefer.json'}:{number}"
        try:
            stem = Path(str(row["im_name"])).stem
            columns, text = row["label_2"], str(row["description"]).strip()
        except (KeyError, TypeError) as error:
            raise DataError(f"a row lacks {error}", where=where, mend="restore it") from error
        file = root / "images" / f"{stem}.png"
        if stem not in cameras:
            cameras[stem] = read_calibration(root / "calib" / f"{stem}.txt", image_size(file))
        camera, offset = cameras[stem]
        box = kitti_box(_literal(columns, where), where)
        split = next((s for s, stems in lists.items() if stem in stems), "train")
        if box is not None and text:
            group = _refer_group(row, unique, text)
            name = f"{stem}#{row.get('instanceID', number)}-{row.get('ann_id', number)}"
            samples.append(SpatialSample(name, file, camera, text, (_moved(box, offset),), (), split, group))  # type: ignore[arg-type]
    facts = protocol(samples, "the published lists", leaking=sum(leaks(s.expression) for s in samples))
    return SpatialData(f"mono3drefer:{root}", root, tuple(samples), facts)


def _literal(value: Any, where: str) -> Sequence[Any]:
    try:
        columns = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError) as error:
        raise DataError(f"label_2 is no list ({error})", where=where, mend="restore it") from error
    if not isinstance(columns, list | tuple):
        raise DataError("label_2 is no list", where=where, mend="restore it")
    return columns


def _refer_group(row: Mapping[str, Any], unique: set[str] | None, text: str) -> str:
    told = [] if unique is None else ["unique" if str(row.get("instanceID")) in unique else "multiple"]
    return " ".join([*told, *(["leaks"] if leaks(text) else [])])


@dataclass(frozen=True)
class IgnoreRule:
    """Which annotations of Omni3D are not used.

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


def bbox_2d(note: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom): the tight box, else the truncated, else the projected one."""
    for key in ("bbox2D_tight", "bbox2D_trunc", "bbox2D_proj"):
        box = note.get(key)
        if box is not None and len(box) == 4 and not all(v == -1 for v in box):
            left, top, right, bottom = (float(v) for v in box)
            return left, top, right, bottom
    return None


def read_omni3d(root: Path) -> SpatialData:
    """Omni3D: ``Omni3D/NAME_{train,val,test}.json``; pictures by their ``file_path`` below ``root``.

    Annotations of the ignore rule are left out. Expressions are made by rule.

    Raises:
        DataError: no such file, a picture that is missing, or an annotation that does not fit.
    """
    folder = root / "Omni3D" if (root / "Omni3D").is_dir() else root
    files = sorted(f for f in folder.glob("*.json") if f.stem.rpartition("_")[2] in ("train", "val", "test"))
    if not files:
        raise DataError(
            "holds no NAME_train.json or NAME_test.json", where=folder, mend="name Omni3D's folder"
        )
    samples: list[SpatialSample] = []
    ignored = 0
    for file in files:
        found, left = _omni3d_file(root, file)
        samples += found
        ignored += left
    facts = protocol(samples, "the published files", expressions="by rule", ignored=ignored)
    return SpatialData(f"omni3d:{root}", root, tuple(samples), facts)


def _omni3d_file(root: Path, file: Path) -> tuple[list[SpatialSample], int]:
    source, _, split = file.stem.rpartition("_")
    content = read_json(file)
    notes: dict[Any, list[Mapping[str, Any]]] = {}
    for note in content.get("annotations", []):
        notes.setdefault(note["image_id"], []).append(note)
    samples, ignored, rule = [], 0, IgnoreRule()
    for image in content.get("images", []):
        try:
            picture = root / str(image["file_path"])
            camera = Camera.from_matrix(image["K"], int(image["width"]), int(image["height"]), "calibration")
        except (KeyError, TypeError) as error:
            raise DataError(f"an image lacks {error}", where=file, mend="restore it") from error
        own = notes.get(image["id"], [])
        used = [n for n in own if not rule.ignores(n, camera.height)]
        ignored += len(own) - len(used)
        boxes = [_omni3d_box(n, file) for n in used]
        for sample in asked_by_rule(picture, camera, boxes, split):  # type: ignore[arg-type]
            name = f"{source}/{image['id']}#{sample.name.rpartition('#')[2]}"
            samples.append(replace(sample, name=name, group=f"{source} {sample.group}"))
    return samples, ignored


def _omni3d_box(note: Mapping[str, Any], file: Path) -> Box:
    name = str(note.get("category_name", ""))
    try:
        if "center_cam" in note:
            return checked(Box.from_omni3d(note["center_cam"], note["dimensions"], note["R_cam"], name), file)
        centre, size, rotation = box_of_corners(np.asarray([note["bbox3D_cam"]], float))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"an annotation is incomplete ({error})", where=file, mend="restore it") from error
    return checked(Box(centre[0], size[0], rotation[0], name), file)
