"""The inspection report that a plant would file."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from PIL.Image import Image

from wildsight.errors import ImageError
from wildsight.images import load_image, load_mask
from wildsight.report import Report
from wildsight.report.plots import outline_mask
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.workflows.inspect.describing import in_words
from wildsight.workflows.inspect.project import Looked, Project

SHOWN, SHEET = 60, 12
RED = (220, 30, 40)
GREY = PILImage.new("RGB", (128, 128), "grey")


def write_report(project: Project) -> Path:
    """Write ``results.csv``, ``scores.json`` and ``report.html`` into the project folder.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = RunFolder(project.folder)
    rows = [row for looked in project.looked.values() for row in _rows(project, looked)]
    write_csv(folder.results, rows)
    wrong = [p for p in project.looked.values() if p.anomalous]
    kinds = Counter(project.label(f) for f in project.finds())
    scores = {"looked": len(project.looked), "anomalous": len(wrong), "kinds": dict(kinds)}
    folder.write_scores({**scores, "not_read": list(project.errors.values()), "environment": environment()})
    report = Report(
        "Inspection report", f"{project.folder.name}: {len(wrong)} of {len(project.looked)} rejected"
    )
    report.table(Table(["", ""], [[k, v] for k, v in _summary(project, wrong).items()]))
    for error in project.errors.values():
        report.warning(f"not read: {error}")
    report.section("Kinds of defect")
    head = ["kind", "finds", "pictures", "described as"]
    report.table(Table(head, _kinds(project)), "Named by a person, or grouped")
    for kind in kinds:
        report.gallery(_sheet(project, kind), kind)
    report.section("Rejected pictures")
    ranked = sorted(wrong, key=lambda p: -p.score / p.threshold)
    report.gallery([(_drawn(project, p), _caption(project, p)) for p in ranked[:SHOWN]])
    if len(ranked) > SHOWN:
        report.text(f"The {SHOWN} with the highest scores are shown; all {len(ranked)} are in results.csv.")
    report.section("How this was made")
    report.facts({k: v for k, v in project.settings.items() if k != "environment"})
    report.facts(environment())
    return report.save(folder.report)


def _summary(project: Project, wrong: list[Looked]) -> dict[str, Any]:
    named = sum(f in project.names for f in project.finds())
    return {
        "pictures looked at": len(project.looked),
        "accepted": len(project.looked) - len(wrong),
        "rejected": len(wrong),
        "suspicious regions": len(project.finds()),
        "of these named by a person": named,
        "could not be read": len(project.errors),
    }


def _rows(project: Project, looked: Looked) -> list[dict[str, Any]]:
    base = {
        "file": looked.file, "sha256": looked.sha, "verdict": "rejected" if looked.anomalous else "accepted",
        "score": looked.score, "threshold": looked.threshold,
    }  # fmt: skip
    if not looked.finds:
        return [base]
    return [
        {**base, "find": f.id, "kind": project.label(f.id), "described": in_words(project, [f.id]),
         "box": " ".join(f"{v:.0f}" for v in f.box), "area": f.area}
        for f in looked.finds
    ]  # fmt: skip


def _kinds(project: Project) -> list[list[Any]]:
    finds = project.finds()
    rows = []
    for kind, count in Counter(project.label(f) for f in finds).most_common():
        pictures = {looked.sha for f, looked in finds.items() if project.label(f) == kind}
        members = [f for f in finds if project.label(f) == kind]
        rows.append([kind, count, len(pictures), in_words(project, members)])
    return rows


def _sheet(project: Project, kind: str) -> list[tuple[Image, str]]:
    chosen = [f for f in project.finds() if project.label(f) == kind][:SHEET]
    return [(tile(project, f), f) for f in chosen]


def tile(project: Project, find: str) -> Image:
    """The crop of a find; grey where its file is gone or damaged."""
    try:
        return load_image(project.crop(find))
    except ImageError:
        return GREY.copy()


def _drawn(project: Project, looked: Looked) -> Image:
    """The picture with the outlines and boxes of its finds; a grey tile where it is gone."""
    try:
        picture = load_image(looked.file)
    except ImageError:
        return GREY.copy()
    pixels = np.array(picture)
    for find in looked.finds:
        with suppress(ImageError):
            pixels[outline_mask(load_mask(project.mask(find.id)), picture.size)] = RED
    drawn = PILImage.fromarray(pixels)
    pen = ImageDraw.Draw(drawn)
    for find in looked.finds:
        pen.rectangle(find.box, outline=RED, width=max(1, picture.width // 128))
    return drawn


def _caption(project: Project, looked: Looked) -> str:
    kinds = ", ".join(dict.fromkeys(project.label(f.id) for f in looked.finds)) or "whole picture"
    return f"{Path(looked.file).name}: {kinds}, {looked.score / looked.threshold:.2f} x the threshold"
