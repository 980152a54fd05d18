"""Contact sheets of groups, and the pictures of a report: co-occurrence, K curve, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageOps
from PIL.Image import Image, Resampling

from wildsight.discovery.estimate_k import Estimate
from wildsight.errors import WildSightError
from wildsight.images import load_image
from wildsight.report.plots import new_figure

SIDE, GAP, COLUMNS = 112, 6, 3
SAMPLE = 2000


def representatives(rows: np.ndarray, count: int = 9) -> np.ndarray:
    """Positions of the medoid of unit rows [N, d], then of its nearest ones.

    The medoid is the row with the largest mean cosine to the others, which is the one nearest in angle to
    their mean: no N x N matrix.
    """
    medoid = int((rows @ rows.mean(0)).argmax())
    near = rows @ rows[medoid]
    near[medoid] = np.inf
    return np.argsort(-near, kind="stable")[:count]


def contact_sheet(files: Sequence[Path | Image], columns: int = COLUMNS, side: int = SIDE) -> Image:
    """Thumbnails in a grid, the first (the medoid) framed; an unreadable file is a grey square."""
    lines = max(1, -(-len(files) // columns))
    size = (columns * (side + GAP) + GAP, lines * (side + GAP) + GAP)
    sheet = PILImage.new("RGB", size, (255, 255, 255))
    for i, file in enumerate(files):
        x, y = GAP + (i % columns) * (side + GAP), GAP + (i // columns) * (side + GAP)
        sheet.paste(_thumbnail(file, side), (x, y))
        if i == 0:
            box = (x - 3, y - 3, x + side + 2, y + side + 2)
            ImageDraw.Draw(sheet).rectangle(box, outline=(0, 128, 120), width=3)
    return sheet


def _thumbnail(file: Path | Image, side: int) -> Image:
    try:
        picture = load_image(file) if isinstance(file, Path) else file
        return ImageOps.pad(picture, (side, side), Resampling.BILINEAR, color=(240, 240, 240))
    except WildSightError:
        return PILImage.new("RGB", (side, side), (160, 160, 160))


def sampled(groups: np.ndarray, limit: int = SAMPLE, seed: int = 0) -> np.ndarray:
    """Positions of at most ``limit`` pictures, ordered by group."""
    rows = np.arange(len(groups))
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))
    return rows[np.argsort(groups[rows], kind="stable")]


def cooccurrence_figure(
    before: np.ndarray,
    last: np.ndarray,
    groups: np.ndarray,
    known: int,
    seed: int = 0,
    after: str = "features of the groups",
) -> Any:
    """Cosines of a sample of pictures, ordered by group: frozen features, then what they became.

    Args:
        before, last: [N, d] unit rows.
        groups: [N].
        known: number of known classes; a line parts them from the new ones.
        seed: of the sample.
        after: what ``last`` is.
    """
    order = sampled(groups, seed=seed)
    border = int((groups[order] < known).sum())
    figure, axes = new_figure(2, (9.0, 4.4))
    for axis, rows, title in zip(axes, (before, last), ("frozen features", after), strict=True):
        part = rows[order]
        picture = axis.imshow(part @ part.T, vmin=-1.0, vmax=1.0, cmap="RdBu_r", interpolation="nearest")
        axis.axhline(border - 0.5, color="black", linewidth=1)
        axis.axvline(border - 0.5, color="black", linewidth=1)
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(picture, ax=list(axes), shrink=0.8)
    return figure


def k_curve(estimate: Estimate, known: int) -> Any:
    """Score over K with its spread, the chosen K and the range that the score cannot tell apart."""
    figure, axes = new_figure()
    ks = list(estimate.curve)
    mean, std = (np.array([estimate.curve[k][i] for k in ks]) for i in (0, 1))
    axes[0].errorbar(ks, mean, std, marker="o", capsize=3)
    axes[0].axvspan(estimate.low, estimate.high, alpha=0.15)
    axes[0].axvline(estimate.k, color="black", linewidth=1)
    axes[0].set_xlabel(f"number of classes ({known} are known)")
    axes[0].set_ylabel("score")
    return figure


def confusion(pred: np.ndarray, true: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> Any:
    """Shares of each class that went to each group, classes down."""
    table = np.zeros((len(classes), len(names)))
    np.add.at(table, (true, pred), 1)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure, axes = new_figure(size=(1.5 + 0.22 * len(names), 1.5 + 0.22 * len(classes)))
    axes[0].imshow(share, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    small = 7 if max(len(names), len(classes)) <= 60 else 4
    axes[0].set_xticks(range(len(names)), names, rotation=90, fontsize=small)
    axes[0].set_yticks(range(len(classes)), classes, fontsize=small)
    axes[0].set_xlabel("group")
    axes[0].set_ylabel("true class")
    return figure
