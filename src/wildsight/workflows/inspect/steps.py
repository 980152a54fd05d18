"""The steps of an inspection. Each can be done again; none touches the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.anomaly import AnomalyDetector, AnomalyResult
from wildsight.anomaly.boxes import AnomalyBox, boxes_of
from wildsight.backbones import Backbone, load_backbone
from wildsight.discovery import CategoryDiscoverer
from wildsight.discovery.data import CategoryData, CategorySample, make_data
from wildsight.discovery.estimate_k import simplified_silhouette
from wildsight.discovery.methods import METHODS
from wildsight.errors import DataError, ImageError, WildSightError
from wildsight.files import sha256
from wildsight.images import expand, load_image
from wildsight.spatial.metrics import box_2d_iou
from wildsight.workflows.inspect.crops import cropped, good_crops, write_picture
from wildsight.workflows.inspect.project import GOOD, Find, Looked, Project

MOST = 4
"""Finds of one picture, at most."""
SMALLEST = 4
"""Pixels of the picture that an outline must have; what is smaller is no find."""
SAME = 0.5
"""Overlap from which finds of two looks are one."""
GROUPED_FROM = 4
"""Finds from which grouping means something."""


def look(
    project: Project,
    pictures: Sequence[str | Path],
    *,
    again: bool = False,
    batch: str = "",
    progress: Callable[[int], Any] | None = None,
) -> list[Looked]:
    """Find and outline what is wrong in pictures; one that this detector has seen is not looked at again.

    Args:
        project: an open project; saved after every picture.
        pictures: files, globs or folders.
        again: look at known pictures once more.
        batch: what to call this lot of pictures in the report.
        progress: called with the number of pictures just done.

    Returns:
        What was seen, one per readable picture, known ones included.

    Raises:
        DataError: no picture found.
    """
    files = files_of(pictures)
    detector, made_by = AnomalyDetector.from_pretrained(project.detector), project.fingerprint()
    outline = _outliner(project)
    seen = []
    for file in files:
        try:
            name = _hash(file)
            before = project.looked.get(name)
            if again or before is None or before.detector not in ("", made_by):
                found = _look(project, file, name, detector, outline)
                when = datetime.now().astimezone().isoformat(" ", "seconds")
                project.looked[name] = replace(found, detector=made_by, when=when, batch=batch.strip())
                _carry(project, before, project.looked[name])
                _answer(project, project.looked[name])
                project.save()
            seen.append(project.looked[name])
            if project.errors.pop(str(file), None):
                project.save()
        except WildSightError as error:
            project.errors[str(file)] = str(error)
            project.save()
        if progress:
            progress(1)
    return seen


def files_of(pictures: Sequence[str | Path]) -> list[Path]:
    """The files behind names, globs and folders, as paths that hold from any directory.

    Raises:
        DataError: no picture found.
    """
    files = [file.absolute() for item in pictures for file in expand(item)]
    if not files:
        raise DataError("no picture found", where=" ".join(map(str, pictures)), hint="name files or a folder")
    return files


def _carry(project: Project, before: Looked | None, now: Looked) -> None:
    """After another look at a picture: its names go to the finds in the same place, guesses are forgotten."""
    if before is None or before.finds == now.finds:
        return
    names = {f.id: project.names.pop(f.id) for f in before.finds if f.id in project.names}
    for find in before.finds:
        for guesses in (project.groups, project.answers, project.words):
            guesses.pop(find.id, None)
    boxes = [np.array([f.box for f in finds]).reshape(-1, 4) for finds in (before.finds, now.finds)]
    for find, shared in zip(before.finds, box_2d_iou(*boxes), strict=True):
        if find.id in names and len(shared) and shared.max() >= SAME:
            project.names[now.finds[int(shared.argmax())].id] = names[find.id]


def _hash(file: Path) -> str:
    """SHA-256 of a picture's file; ImageError where it cannot be opened."""
    try:
        return sha256(file)
    except FileNotFoundError as error:
        raise ImageError("no such file", where=file, hint="check the path") from error
    except OSError as error:
        what = f"cannot be opened ({error.strerror})"
        raise ImageError(what, where=file, hint="check its rights") from error


Outline = Callable[[Image, AnomalyResult, Sequence[AnomalyBox]], list[np.ndarray]]


def _outliner(project: Project) -> Outline:
    """How outlines are drawn: by the project's adapter, else by the heat map."""
    if not project.settings.get("adapter"):
        return _by_heat
    from wildsight.segmentation import AnomalySegmenter

    segmenter = AnomalySegmenter.from_pretrained(project.settings["adapter"])

    def draw(picture: Image, _result: AnomalyResult, boxes: Sequence[AnomalyBox]) -> list[np.ndarray]:
        return list(segmenter.predict(picture, boxes=[b.xyxy for b in boxes])[0].masks)

    return draw


def _by_heat(picture: Image, result: AnomalyResult, boxes: Sequence[AnomalyBox]) -> list[np.ndarray]:
    heat = np.asarray(PILImage.fromarray(result.map).resize(picture.size, PILImage.Resampling.BILINEAR))
    return [_inside(heat > result.threshold, box) for box in boxes]


def _inside(mask: np.ndarray, box: AnomalyBox) -> np.ndarray:
    """The part of a mask [H, W] inside a box."""
    left, top, right, bottom = (round(v) for v in box.xyxy)
    kept = np.zeros_like(mask, dtype=bool)
    kept[top:bottom, left:right] = mask[top:bottom, left:right]
    return kept


def _look(project: Project, file: Path, name: str, detector: AnomalyDetector, outline: Outline) -> Looked:
    picture = load_image(file)
    result = detector.predict(file)[0]
    finds: list[Find] = []
    if result.anomalous:
        boxes = boxes_of(result.map, result.threshold, picture_size=picture.size, min_area=4, limit=MOST)
        masks = outline(picture, result, boxes) if boxes else []
        kept = [(box, mask) for box, mask in zip(boxes, masks, strict=True) if mask.sum() >= SMALLEST]
        for number, (box, mask) in enumerate(kept):
            finds.append(
                Find(f"{name[:16]}-{number}", box.xyxy, int(mask.sum()), box.score / result.threshold)
            )
            write_picture(project.crop(finds[-1].id), cropped(picture, box.xyxy))
            write_picture(project.mask(finds[-1].id), PILImage.fromarray(mask.astype(np.uint8) * 255))
    return Looked(name, str(file), result.score, result.threshold, tuple(finds))


def group(
    project: Project,
    *,
    k: Any = "auto",
    method: str = "sskmeans",
    backbone: str = "nano-clip",
    progress: bool = False,
    **training: Any,
) -> int:
    """Sort the finds into the names that are known and into new groups.

    Names given by a person are known classes and keep their finds; crops of good pictures are one more, so
    that false alarms have a place to go.

    Args:
        project: an open project; saved.
        k: number of groups, known ones included; ``auto``, a number or a range.
        method: of the discovery task: ``sskmeans``, or ``nngcd`` (the paper) and its peers.
        backbone: tower for the crops.
        progress: show progress.
        training: fields of `TrainConfig`, for trained methods.

    Returns:
        The number of groups that hold a find.

    Raises:
        DataError: too few finds.
        ConfigError: an unknown method or backbone, or training settings for a method without training.
    """
    METHODS.create(method)
    finds = list(project.finds())
    if len(finds) < GROUPED_FROM:
        text = f"{len(finds)} finds are too few to group"
        raise DataError(text, where=project.folder, hint="look at more pictures first")
    named = project.names_here()
    samples = [CategorySample(project.crop(f), named.get(f)) for f in finds]
    samples += [CategorySample(file, GOOD) for file in good_crops(project)]
    known = [GOOD, *sorted(set(named.values()) - {GOOD})]
    if all(s.label for s in samples):
        return _finish(project, {}, named)
    data = make_data(
        samples, known, (), name="inspect", root=project.folder, split="named finds are labelled"
    )
    tower = load_backbone(backbone)
    chosen = _number(data, k, tower, len(known), len(finds) - len(named))
    results = CategoryDiscoverer(method, tower, k=chosen).fit(data, progress=progress, **training).results()
    found = {
        r.image.stem: {"group": r.name, "confidence": r.confidence, "doubtful": r.doubtful}
        for r in results
        if r.image is not None
    }
    return _finish(project, found, named)


def _number(data: CategoryData, k: Any, tower: Backbone, known: int, free: int) -> Any:
    """K as the discoverer takes it; where fewer than two classes are known, the best silhouette of a few."""
    most = known + max(1, min(12, free // 3))
    if k != "auto":
        return k
    if known >= 2:
        return f"{known}-{most}"
    tried = [CategoryDiscoverer("sskmeans", tower, k=n).fit(data) for n in range(known + 1, most + 1)]
    return max(tried, key=_silhouette).k


def _silhouette(discoverer: CategoryDiscoverer) -> float:
    centres = discoverer.centres
    return -1.0 if centres is None else simplified_silhouette(discoverer.need_fit().embedding, centres)


def _finish(project: Project, found: dict[str, dict[str, Any]], named: dict[str, str]) -> int:
    sure = {f: {"group": n, "confidence": 1.0, "doubtful": False} for f, n in named.items()}
    project.groups = {**found, **sure}
    project.save()
    return len({row["group"] for row in project.groups.values()})


def _answer(project: Project, looked: Looked) -> None:
    """The learner's word for each find, where something was learnt."""
    if not project.learner.is_dir() or not looked.finds:
        return
    from wildsight.workflows.inspect.learning import answers

    project.answers.update(answers(project, [f.id for f in looked.finds]))
