"""Heat map to outline: the anomaly task finds, the segmentation task draws. Neither knows of the other.

``map -> threshold -> connected regions -> boxes -> one mask per box -> their union``, and nothing at all
where the detector says that the picture is good: a segmenter always answers with a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.Image import Image, Resampling
from scipy import ndimage

from wildsight.anomaly.boxes import boxes_of
from wildsight.anomaly.estimator import AnomalyDetector
from wildsight.anomaly.result import AnomalyResult
from wildsight.errors import ConfigError, DataError, WildSightError
from wildsight.files import atomic_path, short_name, write_json
from wildsight.images import load_image
from wildsight.report import Report
from wildsight.results import Result
from wildsight.segmentation.data import MaskSample, SegmentationData
from wildsight.segmentation.estimator import AnomalySegmenter
from wildsight.segmentation.metrics import boundary_iou, iou, mean_rows
from wildsight.segmentation.result import DRAFT, FINAL, beside, paint
from wildsight.segmentation.training_samples import checked_mask

Bools = NDArray[np.bool_]
FOUND = 0.5
"""Share of a true region that a mask must cover for the region to count as found."""
KEYS = ("iou", "boundary_iou", "overlap", "recall")


@dataclass(frozen=True)
class Refined(Result):
    """A detector's answer with outlines.

    Attributes:
        image: file, or None for a picture given as pixels.
        anomalous: the detector's verdict; False leaves both masks empty.
        boxes: (x1, y1, x2, y2) of each region of the map, pixels of the picture.
        raw: [H, W] bool, the map above its threshold, at the picture's size.
        mask: [H, W] bool, the union of the outlines.
    """

    image: Path | None
    anomalous: bool
    boxes: tuple[tuple[float, float, float, float], ...]
    raw: Bools
    mask: Bools

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary with areas in place of masks."""
        return {
            "image": None if self.image is None else str(self.image),
            "anomalous": self.anomalous,
            "boxes": [list(b) for b in self.boxes],
            "raw_area": int(self.raw.sum()),
            "refined_area": int(self.mask.sum()),
        }

    def strip(self, picture: Image) -> Image:
        """Picture, raw mask (blue) and outline (red) side by side."""
        return beside([picture, paint(picture, self.raw, DRAFT), paint(picture, self.mask, FINAL)])

    def figure(self) -> Any:
        """Picture, raw mask and outline, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        if self.image is None:
            raise ConfigError("the picture is not known", hint="use strip(picture)")
        shown = load_image(self.image)
        raw, final = paint(shown, self.raw, DRAFT), paint(shown, self.mask, FINAL)
        return side_by_side([(shown, "picture"), (raw, "heat map"), (final, "outline")])


def refine(
    result: AnomalyResult,
    segmenter: AnomalySegmenter,
    picture: Image | None = None,
    *,
    min_area: int = 9,
    padding: float = 0.05,
    limit: int = 8,
) -> Refined:
    """Outline what a detector found in one picture.

    Args:
        result: of the detector.
        segmenter: draws one mask per box.
        picture: the pixels, where the result knows no file.
        min_area: regions of fewer pixels of the map are dropped.
        padding: boxes grow by this share of their sides.
        limit: boxes at most, highest peak first.

    Raises:
        ConfigError: no picture, or a setting outside its range.
        ImageError: the picture cannot be read.
    """
    if picture is None and result.image is None:
        raise ConfigError("the picture is not known", hint="pass it to refine(result, segmenter, picture)")
    shown = picture or load_image(result.image or "")
    empty = np.zeros((shown.height, shown.width), bool)
    if not result.anomalous:
        return Refined(result.image, False, (), empty, empty)
    raw = (
        np.asarray(PILImage.fromarray(result.map).resize(shown.size, Resampling.BILINEAR)) > result.threshold
    )
    found = boxes_of(
        result.map, result.threshold, picture_size=shown.size, min_area=min_area, padding=padding, limit=limit
    )
    boxes = tuple(b.xyxy for b in found)
    mask = segmenter.predict(shown, boxes=boxes)[0].mask if boxes else empty
    return Refined(result.image, True, boxes, raw, mask)


def region_overlap(truth: Bools, mask: Bools) -> tuple[float, float]:
    """Mean covered share of the 8-connected true regions, and the share of them covered by half or more.

    >>> region_overlap(np.array([[1, 1, 0, 1]], bool), np.array([[1, 0, 0, 1]], bool))
    (0.75, 1.0)
    """
    marks, count = ndimage.label(truth, structure=np.ones((3, 3), int))
    covered = np.array([mask[marks == i].mean() for i in range(1, count + 1)])
    return float(covered.mean()), float((covered >= FOUND).mean())


def _scores(truth: Bools, mask: Bools, name: str) -> dict[str, float]:
    values = (iou(truth, mask), boundary_iou(truth, mask), *region_overlap(truth, mask))
    return {f"{name}_{key}": value for key, value in zip(KEYS, values, strict=True)}


@dataclass(frozen=True)
class Detected:
    """A defect with its true mask, and what the detector says of the picture."""

    sample: MaskSample
    truth: Bools
    result: AnomalyResult


def detect(detector: AnomalyDetector, data: SegmentationData) -> list[Detected]:
    """The detector's answers on the test half of ``data``, each category at its own threshold if any.

    Raises:
        DataError: no usable test picture.
    """
    found = []
    for sample in data.test:
        try:
            truth = checked_mask(sample)
        except WildSightError:
            continue
        category = sample.category if sample.category in detector.thresholds else None
        found.append(Detected(sample, truth, detector.predict(sample.image, category=category)[0]))
    if not found:
        raise DataError("no usable test picture", where=data.root, hint="run `wildsight check segmentation`")
    return found


def score_refinement(
    found: Sequence[Detected], segmenter: AnomalySegmenter, **options: Any
) -> list[dict[str, Any]]:
    """Raw-map masks against refined masks; no true mask is used as a prompt.

    Args:
        found: by `detect`.
        segmenter: draws.
        options: of `refine`.

    Returns:
        One row per category, then ``mean``: ``raw_*`` and ``refined_*`` of ``iou``, ``boundary_iou``,
        ``overlap`` (per-region, at the mask) and ``recall`` (of regions), and ``found``: the share of the
        pictures that the detector calls anomalous. A defect that it misses counts with empty masks.
    """
    rows = []
    for one in found:
        refined = refine(one.result, segmenter, **options)
        scores = {**_scores(one.truth, refined.raw, "raw"), **_scores(one.truth, refined.mask, "refined")}
        rows.append({"category": one.sample.category, "found": float(refined.anomalous), **scores})
    return mean_rows(rows, [k for k in rows[0] if k != "category"])


def evaluate_refinement(
    detector: AnomalyDetector, segmenter: AnomalySegmenter, data: SegmentationData, **options: Any
) -> list[dict[str, Any]]:
    """`detect`, then `score_refinement`.

    Raises:
        DataError: no usable test picture.
    """
    return score_refinement(detect(detector, data), segmenter, **options)


def write_refined(
    results: Sequence[AnomalyResult], adapter: Path, out: Path, base: str | None = None
) -> Path:
    """Outline every result and write ``outlines/*.png``, ``outlines.json`` and ``outlines.html``.

    Args:
        results: of files.
        adapter: folder written by ``wildsight segmentation fit``.
        out: the folder of the prediction.
        base: the adapter's base, if its folder has moved.

    Returns:
        The page.

    Raises:
        CheckpointError: damaged, or made for another base.
    """
    segmenter = AnomalySegmenter.from_pretrained(adapter, backbone=base)
    strips: list[tuple[Image, str]] = []
    rows = []
    for number, result in enumerate(results):
        refined = refine(result, segmenter)
        rows.append(refined.to_dict())
        stem = result.image.stem if result.image else "picture"
        with atomic_path(out / "outlines" / f"{short_name(f'{number:05d}-{stem}')}.png") as temporary:
            PILImage.fromarray(refined.mask.astype(np.uint8) * 255).save(temporary, format="PNG")
        if refined.anomalous and len(strips) < 24:
            strips.append((refined.strip(load_image(result.image or "")), str(result.image)))
    write_json(out / "outlines.json", rows)
    report = Report("Outlines", f"{len(strips)} anomalous pictures: picture, heat map (blue), outline (red)")
    report.gallery(strips)
    return report.save(out / "outlines.html")
