"""What a prediction leaves in its folder: ``scores.json``, ``results.csv``, ``report.html`` and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.estimators.reporting import begin_report
from wildsight.files import atomic_path, short_name
from wildsight.images import load_image
from wildsight.results import RunFolder, environment, write_csv
from wildsight.segmentation.result import SegmentationResult

SHOWN = 24


def write_predictions(results: Sequence[SegmentationResult], errors: Sequence[str], out: Path) -> Path:
    """Write masks and drafts as PNG of 0 and 255, and the folder of a prediction; returns the report."""
    folder = RunFolder(out)
    strips: list[tuple[Image, str]] = []
    for number, result in enumerate(results):
        stem = short_name(f"{number:05d}-{result.image.stem if result.image else 'picture'}")
        for name, masks in (("masks", result.masks), ("drafts", result.drafts)):
            for i, mask in enumerate(masks):
                _save_mask(mask, out / name / f"{stem}-{i}.png")
        if len(strips) < SHOWN and result.image is not None:
            strip = result.strip(load_image(result.image))
            strips.append((strip, f"{result.image}: picture, draft, final"))
    rows = [r.to_dict() for r in results]
    write_csv(folder.results, rows)
    folder.write_scores({"pictures": rows, "not_read": list(errors), "environment": environment()})
    masks_in_all = sum(len(r.masks) for r in results)
    report = begin_report("Outlines", f"{masks_in_all} masks in {len(results)} pictures", errors)
    report.gallery(strips, "Draft (blue) and final (red)")
    return report.save(folder.report)


def _save_mask(mask: NDArray[np.bool_], file: Path) -> None:
    with atomic_path(file) as temporary:
        PILImage.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
