"""Pictures of a retrieval: a query with its photos, the best and worst queries, both modalities on a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from PIL.Image import Image

from wildsight.images import load_image
from wildsight.report.plots import new_figure
from wildsight.retrieval.metrics import average_precision, squared_distances

TILE, SHOWN = 96, 7
RIGHT, WRONG = (30, 150, 60), (200, 40, 40)
Both = tuple[np.ndarray, np.ndarray]
"""Embeddings of the sketches [Q, D] and of the photos [N, D]."""


def strip(query: Path | Image, photos: Sequence[Path], right: Sequence[bool] | None = None) -> Image:
    """A query and its photos in a row; a green frame for the right class, a red one for another."""
    sheet = PILImage.new("RGB", (TILE * (len(photos) + 1), TILE), "white")
    pen = ImageDraw.Draw(sheet)
    for place, file in enumerate([query, *photos]):
        picture = load_image(file) if isinstance(file, Path) else file
        sheet.paste(picture.resize((TILE - 8, TILE - 8)), (place * TILE + 4, 4))
        if place and right is not None:
            box = (place * TILE + 1, 1, place * TILE + TILE - 2, TILE - 2)
            pen.rectangle(box, outline=RIGHT if right[place - 1] else WRONG, width=3)
    return sheet


def best_and_worst(
    embeddings: Both,
    labels: tuple[list[str], list[str]],
    files: tuple[list[Path], list[Path]],
    each: int = 4,
) -> list[tuple[Image, str]]:
    """The queries answered best and worst, with their nearest photos and captions.

    Args:
        embeddings: of sketches and photos. labels: their classes. files: their pictures.
        each: how many of either kind.
    """
    order = np.argsort(squared_distances(*embeddings), axis=1, kind="stable")
    right = np.array(labels[1])[order] == np.array(labels[0])[:, None]
    total, count = average_precision(right)
    precision = total / np.maximum(count, 1)
    ranked = np.argsort(-precision, kind="stable")
    shown = []
    for kind, rows in (("best", ranked[:each]), ("worst", ranked[-each:])):
        for i in rows.tolist():
            photos = [files[1][j] for j in order[i, :SHOWN]]
            text = f"{kind}: {labels[0][i]}, average precision {precision[i]:.2f}"
            shown.append((strip(files[0][i], photos, right[i, :SHOWN].tolist()), text))
    return shown


def map_figure(embeddings: Both, labels: tuple[list[str], list[str]], title: str, classes: int = 8) -> Any:
    """Sketches (crosses) and photos (dots) of some classes in the plane of their two largest directions."""
    names = sorted(set(labels[0]))[:classes]
    whole = np.concatenate(embeddings)
    _, _, directions = np.linalg.svd(whole - whole.mean(0), full_matrices=False)
    figure, axes = new_figure(size=(6.0, 4.6))
    for number, name in enumerate(names):
        for marker, embedded, spelled in zip("x.", embeddings, labels, strict=True):
            rows = [i for i, n in enumerate(spelled) if n == name]
            points = (embedded[rows] - whole.mean(0)) @ directions[:2].T
            label = name if marker == "." else None
            axes[0].scatter(
                points[:, 0], points[:, 1], marker=marker, color=f"C{number % 10}", s=24, label=label
            )
    axes[0].set_title(title)
    axes[0].legend(fontsize=7, ncols=2)
    return figure
