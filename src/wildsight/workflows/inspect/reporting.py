"""The inspection report that a plant would file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from PIL.Image import Image
from scipy.ndimage import binary_dilation

from wildsight.datasets.masks import GRADED, read_mask
from wildsight.errors import ImageError
from wildsight.images import load_image
from wildsight.report import Report
from wildsight.report.plots import outline_mask
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.workflows.inspect.describing import in_words
from wildsight.workflows.inspect.project import (
    ACCEPTED,
    GOOD,
    GROUPED,
    LEARNER,
    PERSON,
    REJECTED,
    REVIEWED,
    Looked,
    Project,
)

SHOWN, SHEET = 60, 12
VERDICTS = (ACCEPTED, REVIEWED, REJECTED)
Verdicts = dict[str, list[Looked]]
KINDS = [
    "kind", "finds", "pictures", "named by a person", "by the learner", "its confidence", "grouped",
    "described as",
]  # fmt: skip
SIDE = 384
"""Longer side of a picture in the report, pixels: lines are drawn at that size, and so remain visible."""
RED, YELLOW = (220, 30, 40), (255, 214, 0)
GREY = PILImage.new("RGB", (128, 128), "grey")


def write_report(project: Project) -> Path:
    """Write ``results.csv``, ``scores.json`` and ``report.html`` into the project folder.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = RunFolder(project.folder)
    rows = [row for looked in project.looked.values() for row in _rows(project, looked)]
    write_csv(folder.results, rows)
    verdicts = {v: [p for p in project.looked.values() if project.verdict(p) == v] for v in VERDICTS}
    rejected, reviewed = verdicts[REJECTED], verdicts[REVIEWED]
    kinds = _kinds(project)
    folder.write_scores(_scores(project, verdicts, kinds))
    report = Report(
        "Inspection report", f"{project.folder.name}: {len(rejected)} of {len(project.looked)} rejected"
    )
    report.table(Table(["", ""], [[k, v] for k, v in _summary(project, verdicts).items()]))
    for error in project.errors.values():
        report.warning(f"not read: {error}")
    if project.looked:
        report.section("Batches")
        report.table(Table(["batch", "first look", "last look", "pictures", *VERDICTS], _batches(project)))
    report.section("Kinds of defect")
    report.table(Table(KINDS, [_kind_row(project, k, finds) for k, finds in kinds.items()]))
    for kind, finds in kinds.items():
        report.gallery([(tile(project, f), f) for f in finds[:SHEET]], kind)
    report.section("Rejected pictures")
    report.text("Boxes are red, outlines yellow.")
    _gallery(report, project, rejected)
    if reviewed:
        report.section("Accepted after review")
        report.text("Above the threshold, but every suspicious region of them was called good.")
        _gallery(report, project, reviewed)
    report.section("Accepted pictures")
    report.table(Table(["batch", "count", "pictures"], _accepted(verdicts[ACCEPTED])))
    report.section("How this was made")
    report.facts({k: v for k, v in project.settings.items() if k != "environment"})
    report.facts(environment())
    return report.save(folder.report)


def _scores(project: Project, verdicts: Verdicts, kinds: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "looked": len(project.looked),
        "anomalous": sum(p.anomalous for p in project.looked.values()),
        **{verdict.replace(" ", "_"): len(pictures) for verdict, pictures in verdicts.items()},
        "kinds": {kind: len(finds) for kind, finds in kinds.items()},
        "not_read": list(project.errors.values()),
        "environment": environment(),
    }


def _summary(project: Project, verdicts: Verdicts) -> dict[str, Any]:
    finds = project.finds()
    return {
        "line": project.folder.absolute().name,
        "pictures looked at": len(project.looked),
        **{verdict: len(pictures) for verdict, pictures in verdicts.items()},
        "suspicious regions": len(finds),
        "of these called good: false alarms": sum(project.label(f) == GOOD for f in finds),
        "of these named by a person": len(project.names_here()),
        "could not be read": len(project.errors),
    }


def _gallery(report: Report, project: Project, pictures: list[Looked]) -> None:
    """The pictures with the highest scores, drawn."""
    ranked = sorted(pictures, key=lambda p: -p.score / p.threshold)
    report.gallery([(outlined(project, p), _caption(project, p)) for p in ranked[:SHOWN]])
    if len(ranked) > SHOWN:
        report.text(f"The {SHOWN} with the highest scores are shown; all {len(ranked)} are in results.csv.")


def _rows(project: Project, looked: Looked) -> list[dict[str, Any]]:
    base = {
        "file": looked.file, "sha256": looked.sha, "verdict": project.verdict(looked),
        "score": looked.score, "threshold": looked.threshold, "looked_at": looked.when,
        "batch": looked.batch,
    }  # fmt: skip
    if not looked.finds:
        return [base]
    return [
        {**base, "find": f.id, "kind": project.label(f.id),
         **dict(zip(("said_by", "confidence"), project.said_by(f.id), strict=True)),
         "described": in_words(project, [f.id]),
         "box": " ".join(f"{v:.0f}" for v in f.box), "area": f.area}
        for f in looked.finds
    ]  # fmt: skip


def _kinds(project: Project) -> dict[str, list[str]]:
    """Kind of defect -> its finds, the commonest first; false alarms are none."""
    kinds: dict[str, list[str]] = {}
    for find in project.finds():
        kinds.setdefault(project.label(find), []).append(find)
    kinds.pop(GOOD, None)
    return dict(sorted(kinds.items(), key=lambda row: -len(row[1])))


def _kind_row(project: Project, kind: str, members: list[str]) -> list[Any]:
    """One row under `KINDS`: whose word it is stands apart, with the learner's mean confidence."""
    finds, said = project.finds(), [project.said_by(f) for f in members]
    counts = [sum(who == source for who, _ in said) for source in (PERSON, LEARNER, GROUPED)]
    sure = [c for who, c in said if who == LEARNER and c is not None]
    confidence = f"{fmean(sure):.2f}" if sure else ""
    pictures = len({finds[f].sha for f in members})
    return [kind, len(members), pictures, *counts[:2], confidence, counts[2], in_words(project, members)]


def _batches(project: Project) -> list[list[Any]]:
    """Batch, its first and last look, its pictures, and how many have each verdict."""
    rows = []
    for batch, pictures in _by_batch(project.looked.values()).items():
        times = sorted(p.when for p in pictures)
        counts = Counter(project.verdict(p) for p in pictures)
        rows.append([batch, times[0], times[-1], len(pictures), *(counts[v] for v in VERDICTS)])
    return rows


def _accepted(pictures: list[Looked]) -> list[list[Any]]:
    """Batch, how many of its pictures were accepted, and their names."""
    return [
        [batch, len(many), ", ".join(Path(p.file).name for p in many)]
        for batch, many in _by_batch(pictures).items()
    ]


def _by_batch(pictures: Iterable[Looked]) -> dict[str, list[Looked]]:
    found: dict[str, list[Looked]] = {}
    for picture in pictures:
        found.setdefault(picture.batch or "not named", []).append(picture)
    return found


def tile(project: Project, find: str) -> Image:
    """The crop of a find; grey where its file is gone or damaged."""
    try:
        return load_image(project.crop(find))
    except ImageError:
        return GREY.copy()


def outlined(project: Project, looked: Looked) -> Image:
    """The picture at the size of the report, with boxes and outlines of its finds; grey where it is gone."""
    try:
        picture = load_image(looked.file)
    except ImageError:
        return GREY.copy()
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    drawn = picture.resize(size)
    pen = ImageDraw.Draw(drawn)
    for find in looked.finds:
        pen.rectangle([v * scale for v in find.box], outline=RED, width=2)
    pixels = np.array(drawn)
    for find in looked.finds:
        with suppress(ImageError):
            edge = outline_mask(read_mask(project.mask(find.id), GRADED), size)
            pixels[binary_dilation(edge)] = YELLOW
    return PILImage.fromarray(pixels)


def _caption(project: Project, looked: Looked) -> str:
    kinds = ", ".join(dict.fromkeys(project.label(f.id) for f in looked.finds)) or "whole picture"
    score = f"{looked.score / looked.threshold:.2f} x the threshold"
    return ", ".join(filter(None, (f"{Path(looked.file).name}: {kinds}", score, looked.when)))
