"""Pictures and pages: query sketches with their photos, the two modalities on a map, the margins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from PIL.Image import Image

from wildsight.images import load_image
from wildsight.report import Report
from wildsight.report.plots import curve, new_figure
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.retrieval.metrics import average_precision, squared_distances
from wildsight.retrieval.result import Evaluation, SearchResult
from wildsight.training import History

TILE, SHOWN = 96, 7
RIGHT, WRONG = (30, 150, 60), (200, 40, 40)


def strip(query: Path, photos: Sequence[Path], right: Sequence[bool] | None = None) -> Image:
    """A query and its photos in a row; a green frame for the right class, a red one for another."""
    sheet = PILImage.new("RGB", (TILE * (len(photos) + 1), TILE), "white")
    pen = ImageDraw.Draw(sheet)
    for place, file in enumerate([query, *photos]):
        sheet.paste(load_image(file).resize((TILE - 8, TILE - 8)), (place * TILE + 4, 4))
        if place and right is not None:
            box = (place * TILE + 1, 1, place * TILE + TILE - 2, TILE - 2)
            pen.rectangle(box, outline=RIGHT if right[place - 1] else WRONG, width=3)
    return sheet


def cases(evaluation: Evaluation, each: int = 4) -> list[tuple[Image, str]]:
    """The queries answered best and worst, with their nearest photos."""
    query, gallery = evaluation.embeddings
    away = squared_distances(query, gallery)
    order = np.argsort(away, axis=1, kind="stable")
    right = np.array(evaluation.labels[1])[order] == np.array(evaluation.labels[0])[:, None]
    total, count = average_precision(right)
    precision = total / np.maximum(count, 1)
    ranked = np.argsort(-precision, kind="stable")
    shown = []
    for kind, rows in (("best", ranked[:each]), ("worst", ranked[-each:])):
        for i in rows.tolist():
            photos = [evaluation.files[1][j] for j in order[i, :SHOWN]]
            text = f"{kind}: {evaluation.labels[0][i]}, average precision {precision[i]:.2f}"
            shown.append((strip(evaluation.files[0][i], photos, right[i, :SHOWN].tolist()), text))
    return shown


def map_figure(evaluation: Evaluation, title: str, classes: int = 8) -> Any:
    """Sketches (crosses) and photos (dots) of some classes in the plane of their two largest directions."""
    names = sorted(set(evaluation.labels[0]))[:classes]
    whole = np.concatenate(evaluation.embeddings)
    centred = whole - whole.mean(0)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    figure, axes = new_figure(size=(6.0, 4.6))
    for number, name in enumerate(names):
        for marker, embedded, labels in zip("x.", evaluation.embeddings, evaluation.labels, strict=True):
            chosen = (embedded[[i for i, n in enumerate(labels) if n == name]] - whole.mean(0)) @ right[:2].T
            label = name if marker == "." else None
            axes[0].scatter(
                chosen[:, 0], chosen[:, 1], marker=marker, color=f"C{number % 10}", s=24, label=label
            )
    axes[0].set_title(title)
    axes[0].legend(fontsize=7, ncols=2)
    return figure


def training_curves(report: Report, history: History | None) -> None:
    """The losses, and the learned margins where there are any."""
    if history is None:
        return
    lines = {
        name: history.curve(name) for name in ("loss", "class", "metric", "outer") if history.curve(name)
    }
    report.figure(curve(lines, "losses over epochs"), "Training")
    margins = {n: history.curve(n) for n in ("margin", "spread") if history.curve(n)}
    if margins:
        report.figure(curve(margins, "margin: mean and spread in the batch"), "The margins over training")


def write_search(results: Sequence[SearchResult], out: Path) -> Path:
    """The folder of a search: rows, scores, and a page with a strip for each query."""
    folder = RunFolder(out)
    rows = [
        {"query": str(r.query), "rank": place + 1, "photo": str(h.path), "distance": h.distance, "id": h.id}
        for r in results
        for place, h in enumerate(r.hits)
    ]
    write_csv(folder.results, rows)
    folder.write_scores({"queries": [r.to_dict() for r in results], "environment": environment()})
    report = Report("Photos by sketch", f"{len(results)} sketches")
    for result in results:
        for warning in result.warnings:
            report.warning(f"{result.query}: {warning}")
        photos = [h.path for h in result.hits[: 2 * SHOWN] if h.path.is_file()]
        if result.query is not None and photos:
            report.figure(strip(result.query, photos), str(result.query))
        table = [[n + 1, h.path, f"{h.distance:.4f}"] for n, h in enumerate(result.hits)]
        report.table(Table(["rank", "photo", "distance"], table))
    return report.save(folder.report)


def write_evaluation(
    evaluation: Evaluation, before: Evaluation, facts: dict[str, Any], history: History | None, out: Path
) -> Path:
    """The folder of an evaluation."""
    folder = RunFolder(out)
    row = evaluation.row
    write_csv(folder.results, [row])
    scores = {"scores": row, "untouched": before.row, "protocol": evaluation.protocol, "facts": facts}
    folder.write_scores({**scores, "not_read": evaluation.errors, "environment": environment()})
    report = Report("Sketch retrieval", "photos of classes that were not trained, ranked for every sketch")
    body = [[n, f"{v:.4f}", f"{before.row[n]:.4f}"] for n, v in row.items()]
    report.table(Table(["metric", "trained", "tower untouched"], body), "Means over the queries")
    for error in evaluation.errors:
        report.warning(f"not read: {error}")
    training_curves(report, history)
    report.gallery(cases(evaluation), "Best and worst queries: green is the right class")
    report.figure(map_figure(before, "before training"), "Crosses are sketches, dots photos")
    report.figure(map_figure(evaluation, "after training"), "The same classes, none of them trained")
    report.facts({**facts, **evaluation.protocol, **environment()})
    return report.save(folder.report)
