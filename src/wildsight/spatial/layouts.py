"""From KITTI object, Mono3DRefer and Omni3D to this task's questions; no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.datasets import kitti, mono3drefer, omni3d
from wildsight.datasets.faults import Faults
from wildsight.errors import ConfigError, DataError
from wildsight.images import image_size
from wildsight.spatial.boxes import Box, checked
from wildsight.spatial.camera import Camera, read_calibration
from wildsight.spatial.captions import expressions, leaks
from wildsight.spatial.iou3d import box_of_corners
from wildsight.spatial.samples import SPLITS, SpatialData, SpatialSample, Split, left_out, protocol, split_of


def _kitti_box(label: kitti.KittiLabel) -> Box:
    return checked(Box.from_kitti(label.size, label.place, label.yaw, label.name), label.where)


def kitti_labels(file: Path, faults: Faults | None = None) -> list[Box]:
    """The boxes of a label file, before KITTI's reference camera.

    Raises:
        DataError: the file cannot be read, or a line or box does not fit.
    """
    faults = faults or Faults()
    boxes: list[Box] = []
    for label in kitti.read_labels(file, faults):
        with faults.each(file):
            boxes.append(_kitti_box(label))
    return boxes


def _moved(box: Box, offset: Any) -> Box:
    return Box(box.centre + offset, box.size, box.rotation, box.name)


def read_kitti(root: Path, faults: Faults | None = None) -> SpatialData:
    """KITTI object: ``[training/]image_2 label_2 calib``, and optionally ``ImageSets/{train,val}.txt``.

    Boxes are moved from the reference camera to camera 2 (P2's last column). Expressions are made by rule.

    Raises:
        DataError: a missing folder or file, or one that does not fit.
    """
    faults = faults or Faults()
    frames, left = kitti.frames(root)
    samples: list[SpatialSample] = []
    unread: list[tuple[str, str]] = []
    for frame in frames:
        split = frame.split or split_of(frame.image.stem)
        with faults.each(root), left_out(faults, unread, split):
            boxes = kitti_labels(frame.labels, faults)
            camera, offset = read_calibration(frame.calibration, image_size(frame.image))
            samples += asked_by_rule(frame.image, camera, [_moved(b, offset) for b in boxes], split)
    listed = left or any(frame.split == "train" for frame in frames)
    rule = "ImageSets: val is the test split" if listed else "one frame in five, by hash, is for testing"
    facts = protocol(samples, rule, expressions="by rule", frame="camera 2", in_neither_list=left)
    return SpatialData(f"kitti:{root}", root, tuple(samples), facts, tuple(unread))


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
    faults = faults or Faults()
    rows, listing = mono3drefer.read_rows(root)
    cameras: dict[Path, tuple[Camera, Any]] = {}
    every: list[SpatialSample] = []
    unread: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        with faults.each(root):
            described = mono3drefer.read_row(root, number, row, listing)
            with left_out(faults, unread, described.split or ""):
                every += _described(described, cameras)
    samples = [s for s in every if s.split]
    counts = {"leaking": sum(leaks(s.expression) for s in samples), "in_no_list": len(every) - len(samples)}
    facts = protocol(samples, "the published lists", **counts)
    damaged = tuple(dict.fromkeys(unread))
    return SpatialData(f"mono3drefer:{root}", root, tuple(samples), facts, damaged)


def _described(
    found: mono3drefer.Description, cameras: dict[Path, tuple[Camera, Any]]
) -> Iterator[SpatialSample]:
    """The question of a description, if it has a box. ``cameras`` keeps those of the pictures met."""
    if found.image not in cameras:
        cameras[found.image] = read_calibration(found.calibration, image_size(found.image))
    camera, offset = cameras[found.image]
    label = kitti.read_label(found.columns, found.where)
    if label is not None and found.text:
        target = (_moved(_kitti_box(label), offset),)
        group = _group(found.lists, found.text)
        subsets = found.lists or ()
        split: Any = found.split
        yield SpatialSample(
            found.name, found.image, camera, found.text, target, (), split, group, subsets=subsets
        )


def _group(lists: Sequence[str] | None, text: str) -> str:
    kinds = [] if lists is None else ["unique" if "unique" in lists else "multiple"]
    return " ".join([*kinds, *(["leaks"] if leaks(text) else [])])


def read_omni3d(root: Path, faults: Faults | None = None) -> SpatialData:
    """Omni3D: ``Omni3D/NAME_{train,val,test}.json``; pictures by their ``file_path`` below ``root``.

    One COCO file with Omni3D's fields stands for itself; without a split in its name, one picture in five, by
    the hash of its name, is for testing.

    Annotations of the ignore rule are left out: that of training, or that of the evaluation. Expressions are
    made by rule.

    Raises:
        DataError: no such file, a picture that is missing, or an annotation that does not fit.
    """
    samples: list[SpatialSample] = []
    ignored = 0
    faults = faults or Faults()
    beside = root.parent.parent if root.parent.name == "Omni3D" else root.parent
    base = beside if root.is_file() else root
    for file in omni3d.annotation_files(root):
        with faults.each(root):
            for picture in omni3d.pictures(base, file, faults):
                with faults.each(file):
                    notes, left = picture.used(file, faults)
                    ignored += left
                    samples += _omni3d_samples(picture, notes, file, faults)
    facts = protocol(samples, "the published files", expressions="by rule", ignored=ignored)
    return SpatialData(f"{'coco' if root.is_file() else 'omni3d'}:{root}", base, tuple(samples), facts)


def _omni3d_samples(
    picture: omni3d.OmniPicture, notes: Sequence[Mapping[str, Any]], file: Path, faults: Faults
) -> Iterator[SpatialSample]:
    camera = _omni3d_camera(picture, file)
    boxes: list[Box] = []
    for note in notes:
        with faults.each(file):
            boxes.append(_omni3d_box(note, file))
    split: Any = picture.split if picture.split in SPLITS else split_of(picture.file.name)
    for sample in asked_by_rule(picture.file, camera, boxes, split):
        name = f"{picture.source}/{picture.number}#{sample.name.rpartition('#')[2]}"
        yield replace(sample, name=name, group=f"{picture.source} {sample.group}")


def _omni3d_camera(picture: omni3d.OmniPicture, file: Path) -> Camera:
    try:
        return Camera.from_matrix(picture.intrinsics, *picture.size, "calibration")
    except (TypeError, ValueError) as error:
        raise DataError(f"an image is incomplete ({error})", where=file, hint="restore it") from error
    except ConfigError as error:
        raise DataError(f"image {picture.number}: {error.what}", where=file, hint="restore it") from error


def _omni3d_box(note: Mapping[str, Any], file: Path) -> Box:
    name = str(note.get("category_name", ""))
    try:
        if "center_cam" in note:
            return checked(Box.from_omni3d(note["center_cam"], note["dimensions"], note["R_cam"], name), file)
        centre, size, rotation = box_of_corners(np.asarray([note["bbox3D_cam"]], float))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"an annotation is incomplete ({error})", where=file, hint="restore it") from error
    return checked(Box(centre[0], size[0], rotation[0], name), file)
