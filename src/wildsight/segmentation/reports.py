"""What a run leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``, masks and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.files import atomic_path, write_json
from wildsight.images import load_image
from wildsight.report import Report
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.segmentation.data import SegmentationData, read_mask
from wildsight.segmentation.result import DRAFT, FINAL, Evaluation, SegmentationResult, paint

if TYPE_CHECKING:
    from wildsight.segmentation.segmenter import AnomalySegmenter

SHOWN = 24
TRUTH = (0, 190, 70)


def beside(pictures: Sequence[Image], gap: int = 4) -> Image:
    """Pictures of one height in a row, on white."""
    height = max(p.height for p in pictures)
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    strip = PILImage.new("RGB", (width, height), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    return strip


def strip_of(picture: Image, result: SegmentationResult, truth: NDArray[np.bool_] | None = None) -> Image:
    """Picture, truth where it is known, draft and final, side by side."""
    shown = [picture] if truth is None else [picture, paint(picture, truth, TRUTH)]
    return beside([*shown, paint(picture, result.draft, DRAFT), paint(picture, result.mask, FINAL)])


def write_fit(segmenter: AnomalySegmenter, data: SegmentationData, out: Path) -> Path:
    """Write the folder of a fit, splits included; returns the report."""
    from wildsight.report.plots import curve

    folder = RunFolder(out)
    epochs = segmenter.history.epochs if segmenter.history else []
    faults = [str(f) for f in segmenter.faults]
    write_csv(folder.results, epochs)
    write_json(out / "splits.json", data.splits())
    folder.write_scores({"fitted_on": segmenter.fitted_on, "not_used": faults, "environment": environment()})
    report = Report("Segmenter", f"{segmenter.settings.method} on {data.name}")
    report.facts({**vars(segmenter.settings), **segmenter.fitted_on})
    if epochs:
        names = [k for k in epochs[0] if k.endswith("loss")]
        report.figure(curve({k: [e[k] for e in epochs] for k in names}, "loss over epochs"), "Training loss")
    for fault in faults:
        report.warning(f"not used: {fault}")
    report.section("Environment")
    report.facts(environment())
    return report.save(folder.report)


def write_predictions(results: Sequence[SegmentationResult], errors: Sequence[str], out: Path) -> Path:
    """Write masks and drafts as PNG of 0 and 255, and the folder of a prediction; returns the report."""
    folder = RunFolder(out)
    strips: list[tuple[Image, str]] = []
    for number, result in enumerate(results):
        stem = f"{number:05d}-{result.image.stem if result.image else 'picture'}"
        for name, masks in (("masks", result.masks), ("drafts", result.drafts)):
            for i, mask in enumerate(masks):
                _save_mask(mask, out / name / f"{stem}-{i}.png")
        if len(strips) < SHOWN and result.image is not None:
            strips.append(
                (strip_of(load_image(result.image), result), f"{result.image}: picture, draft, final")
            )
    rows = [r.to_dict() for r in results]
    write_csv(folder.results, rows)
    folder.write_scores({"pictures": rows, "not_read": list(errors), "environment": environment()})
    report = Report("Outlines", f"{sum(len(r.masks) for r in results)} masks in {len(results)} pictures")
    for error in errors:
        report.warning(f"not read: {error}")
    report.gallery(strips, "Draft (blue) and final (red)")
    return report.save(folder.report)


def _save_mask(mask: NDArray[np.bool_], file: Path) -> None:
    with atomic_path(file) as temporary:
        PILImage.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")


def score_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows as a table with three digits."""
    body = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    return Table(list(rows[0]), body)


def write_evaluation(
    segmenter: AnomalySegmenter, data: SegmentationData, evaluation: Evaluation, out: Path
) -> Path:
    """Write the folder of an evaluation, splits included; returns the report."""
    folder = RunFolder(out)
    write_csv(folder.results, evaluation.pictures)
    write_json(out / "splits.json", data.splits())
    scores = {"source": data.name, "protocol": evaluation.protocol, "scores": evaluation.rows}
    folder.write_scores({**scores, "not_used": evaluation.errors, "environment": environment()})
    report = Report("Evaluation", f"{segmenter.settings.method} on {data.name}")
    if "ORACLE" in str(evaluation.protocol.get("prompt")):
        report.warning("The prompts come from the true masks: this measures outlines, not detection.")
    report.table(score_rows(evaluation.rows), "Per category and as a mean")
    for error in evaluation.errors:
        report.warning(f"not used: {error}")
    report.gallery(worst_and_best(data, evaluation), "Picture, truth (green), draft (blue), final (red)")
    report.facts({**vars(segmenter.settings), **evaluation.protocol, **environment()})
    return report.save(folder.report)


def worst_and_best(data: SegmentationData, evaluation: Evaluation, each: int = 6) -> list[tuple[Image, str]]:
    """Strips of the worst and the best outlines; none where the predictions were not kept."""
    if not evaluation.results:
        return []
    samples = {str(s.image): s for s in data.test}
    order = sorted(range(len(evaluation.pictures)), key=lambda i: evaluation.pictures[i]["iou"])
    chosen = dict.fromkeys([*order[-each:][::-1], *order[:each]])
    shown = []
    for i in chosen:
        row = evaluation.pictures[i]
        picture, truth = load_image(row["image"]), read_mask(samples[row["image"]])
        text = f"{row['category']}/{row['defect']}: IoU {row['iou']:.2f}, draft {row['draft_iou']:.2f}"
        shown.append((strip_of(picture, evaluation.results[i], truth), text))
    return shown
