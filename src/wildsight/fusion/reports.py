"""What a fit, a prediction and an evaluation leave in their folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image

from wildsight.files import atomic_path
from wildsight.fusion.result import FusionEvaluation, FusionResult
from wildsight.fusion.segmenter import FusionSegmenter
from wildsight.report import Report
from wildsight.report.plots import bars, curve
from wildsight.results import RunFolder, Table, environment, write_csv

SHOWN = 24


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Mappings as a table, four digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Table(columns, [[_short(row.get(c, "-")) for c in columns] for row in rows])


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def shortened(sentences: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = len(sentences) - SHOWN
    return [*sentences[:SHOWN], *([f"and {more} more such scenes"] if more > 0 else [])]


def write_fit(segmenter: FusionSegmenter, source: str, out: Path) -> Path:
    """The folder of a fit; returns the report."""
    folder, epochs = RunFolder(out), segmenter.history.epochs if segmenter.history else []
    write_csv(folder.results, epochs)
    folder.write_scores({"source": source, "fitted_on": segmenter.fitted_on, "environment": environment()})
    report = Report("Fusion segmenter", f"{segmenter.settings.method} on {source}")
    report.facts({**vars(segmenter.settings), **segmenter.fitted_on, "modalities": segmenter.modalities})
    if epochs and segmenter.history:
        report.figure(curve({"loss": segmenter.history.curve("loss")}, "loss over epochs"), "Training loss")
    report.section("Environment")
    report.facts(environment())
    return report.save(folder.report)


def save_grey(values: np.ndarray, path: Path) -> None:
    """A plane of numbers below 256 as a PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        PILImage.fromarray(values.astype(np.uint8)).save(temporary, format="PNG")


def write_predictions(
    results: Sequence[FusionResult], errors: Sequence[str], out: Path, warnings: Sequence[str] = ()
) -> Path:
    """The folder of a prediction: a mask of class ids and a strip per scene; returns the report.

    A saliency model also leaves its map, 0 to 255, under ``saliency/``.
    """
    folder = RunFolder(out)
    rows = []
    shown: list[tuple[Image, str]] = []
    for result in results:
        name = f"{result.name.replace('/', '-')}.png"
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
    for text in [*warnings, *shortened(lacking)]:
        report.warning(text)
    report.gallery(shown[:SHOWN], "Inputs, prediction, contribution of each modality (white: all of it)")
    return report.save(folder.report)


def write_evaluation(
    evaluation: FusionEvaluation,
    segmenter: FusionSegmenter,
    source: str,
    pictures: Sequence[tuple[Image, str]],
    out: Path,
) -> Path:
    """The folder of an evaluation; returns the report."""
    folder = RunFolder(out)
    write_csv(folder.results, evaluation.rows)
    scores = {"source": source, "protocol": evaluation.protocol, "scores": evaluation.rows}
    scores |= {"share": evaluation.share, "not_read": evaluation.errors, "gaps": evaluation.gaps}
    folder.write_scores({**scores, "environment": environment()})
    report = Report("Evaluation", f"{segmenter.settings.method} on {source}")
    for error in evaluation.errors:
        report.warning(f"not read: {error}")
    for gap in shortened(evaluation.gaps):
        report.warning(gap)
    report.table(table_of(evaluation.rows), "Per condition and together; nothing was selected on test data")
    if evaluation.share:
        shares = {name: (value, 0.0) for name, value in evaluation.share.items()}
        report.figure(bars(shares, "mean contribution of each modality"), "From the routing coefficients")
    report.gallery(list(pictures), "Worst, then best scenes: inputs, truth, prediction, contributions")
    report.facts({**vars(segmenter.settings), **evaluation.protocol, **environment()})
    return report.save(folder.report)
