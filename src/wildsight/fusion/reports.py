"""What a prediction leaves in its folder: masks, ``results.csv``, ``scores.json``, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.files import atomic_path, short_name
from wildsight.fusion.evaluation import SHOWN, shortened
from wildsight.fusion.result import FusionResult
from wildsight.report import Report
from wildsight.results import RunFolder, environment, write_csv


def save_grey(values: np.ndarray, path: Path) -> None:
    """A plane of numbers below 256 as a PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        PILImage.fromarray(values.astype(np.uint8)).save(temporary, format="PNG")


def unpaired(results: Sequence[FusionResult]) -> list[str]:
    """A warning where several modalities were given, and no scene has two of them."""
    names = {name for result in results for name in result.pictures}
    if len(names) < 2 or any(len(result.pictures) > 1 for result in results):
        return []
    return ["no file name is in two of the folders: every scene has one modality"]


def write_predictions(results: Sequence[FusionResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction: a mask of class ids and a strip per scene; returns the report.

    A saliency model also leaves its map, 0 to 255, under ``saliency/``.
    """
    folder = RunFolder(out)
    rows = []
    shown: list[tuple[Image, str]] = []
    for result in results:
        name = f"{short_name(result.name.replace('/', '-'))}.png"
        save_grey(result.labels, out / "masks" / name)
        if result.saliency:
            save_grey(np.rint(result.confidence * 255), out / "saliency" / name)
        summary = result.to_dict()
        rows.append({"name": result.name, **{f"share {k}": v for k, v in summary["share"].items()}})
        shown.append((result.strip(), f"{result.name}: {', '.join(c for _, c in result.tiles())}"))
    write_csv(folder.results, rows)
    scenes = [r.to_dict() for r in results]
    folder.write_scores({"scenes": scenes, "not_read": list(errors), "environment": environment()})
    report = Report("Fusion", f"{len(results)} scenes")
    for error in errors:
        report.warning(f"not read: {error}")
    lacking = [f"{r.name} has no {', no '.join(r.missing)}" for r in results if r.missing]
    for text in [*unpaired(results), *shortened(lacking)]:
        report.warning(text)
    report.gallery(shown[:SHOWN], "Inputs, prediction, contribution of each modality (white: all of it)")
    return report.save(folder.report)
