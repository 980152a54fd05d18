"""Omni3D's files: pictures, intrinsics and annotations, and the rule for annotations that are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildsight.datasets.faults import Faults
from wildsight.datasets.kitti import NOT_AN_OBJECT
from wildsight.datasets.lists import read_json
from wildsight.errors import DataError

MAX_DEPTH = 1e5
SPLITS = ("train", "val", "test")


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


@dataclass(frozen=True)
class OmniPicture:
    """One picture with its annotations, as they stand in the file.

    Attributes:
        source: the set that it comes from.
        split: ``train``, ``val`` or ``test``.
        number: its id.
        file: the picture.
        size: width, height, pixels.
        intrinsics: 3 x 3.
        notes: its annotations.
    """

    source: str
    split: str
    number: Any
    file: Path
    size: tuple[int, int]
    intrinsics: Any
    notes: tuple[Mapping[str, Any], ...]

    def used(self, json: Path, faults: Faults) -> tuple[list[Mapping[str, Any]], int]:
        """The annotations that are used, and how many the rule leaves out.

        Args:
            json: the file that holds them, for messages.
            faults: what to do with a damaged one.
        """
        rule = TRAINING if self.split == "train" else EVALUATION
        kept: list[Mapping[str, Any]] = []
        ignored = 0
        for note in self.notes:
            with faults.each(json):
                try:
                    left_out = rule.ignores(note, self.size[1])
                except (TypeError, ValueError, IndexError) as error:
                    what = f"an annotation is damaged ({error})"
                    raise DataError(what, where=json, hint="restore it") from error
                ignored += left_out
                kept += [] if left_out else [note]
        return kept, ignored


def annotation_files(root: Path) -> list[Path]:
    """``[Omni3D/]NAME_{train,val,test}.json``; one such file stands for itself.

    Raises:
        DataError: there is none.
    """
    if root.is_file():
        return [root]
    folder = root / "Omni3D" if (root / "Omni3D").is_dir() else root
    files = sorted(f for f in folder.glob("*.json") if f.stem.rpartition("_")[2] in SPLITS)
    if not files:
        raise DataError(
            "holds no NAME_train.json or NAME_test.json", where=folder, hint="name Omni3D's folder"
        )
    return files


def pictures(root: Path, file: Path, faults: Faults) -> Iterator[OmniPicture]:
    """The pictures of an annotation file; each one's ``file_path`` is below ``root``.

    Raises:
        DataError: another content, or an entry that is incomplete, unless ``faults`` notes them.
    """
    source, _, split = file.stem.rpartition("_")
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError("is no object with images and annotations", where=file, hint="restore it")
    notes: dict[Any, list[Mapping[str, Any]]] = {}
    for note in content.get("annotations", []):
        with faults.each(file):
            notes.setdefault(_entry(note, "image_id", "an annotation", file), []).append(note)
    for image in content.get("images", []):
        made = None
        with faults.each(file):
            number = _entry(image, "id", "an image", file)
            made = _picture(root, image, file, (source, split, number), tuple(notes.get(number, ())))
        if made is not None:
            yield made


def _picture(
    root: Path,
    image: Mapping[str, Any],
    file: Path,
    named: tuple[str, str, Any],
    notes: tuple[Mapping[str, Any], ...],
) -> OmniPicture:
    try:
        size = int(image["width"]), int(image["height"])
        return OmniPicture(
            *named, root / str(image.get("file_path") or image["file_name"]), size, image["K"], notes
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"an image is incomplete ({error})", where=file, hint="restore it") from error


def _entry(row: Any, key: str, kind: str, file: Path) -> Any:
    if not isinstance(row, dict) or key not in row:
        raise DataError(f"{kind} lacks {key!r}", where=file, hint="restore it")
    return row[key]
