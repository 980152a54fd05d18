"""Figures of an evaluation: seen against unseen accuracy, and the confused pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wildsight.composition.metrics import Top, curve, exact_scores, predicted
from wildsight.datasets.compositions import Pair
from wildsight.report.plots import new_figure

CONFUSED = 30


def seen_unseen_figure(top: Top, bias: float, point: tuple[float, float]) -> Any:
    """The exact curve, with the accuracies (seen, unseen) ``point`` of the calibrated bias."""
    _, seen, unseen = curve(top)
    figure, axes = new_figure(size=(5.0, 4.0))
    axes[0].plot(seen, unseen, drawstyle="steps-post")
    axes[0].plot([point[0]], [point[1]], "o", label=f"calibrated bias {bias:.3f}")
    axes[0].set_xlabel("accuracy on seen pairs")
    axes[0].set_ylabel("accuracy on unseen pairs")
    axes[0].set_title(f"AUC {exact_scores(top)['auc']:.3f}")
    axes[0].legend()
    return figure


def confusion_figure(top: Top, bias: float, pairs: Sequence[Pair], seen: Sequence[bool]) -> Any:
    """Shares of predicted pairs (columns) for each true pair (rows); unseen pairs are marked.

    Args:
        top: the best candidates of each picture. bias: added to unseen pairs.
        pairs: the candidates. seen: whether each was trained.
    """
    best = predicted(top, bias)[:, 0]
    counts = np.bincount(top.truth[top.truth >= 0], minlength=len(pairs))
    chosen = sorted(np.argsort(-counts, kind="stable")[:CONFUSED].tolist())
    share = np.array(
        [[np.mean(best[top.truth == i] == j) if counts[i] else 0.0 for j in chosen] for i in chosen]
    )
    figure, axes = new_figure(size=(8.0, 7.0))
    axes[0].imshow(share, vmin=0, vmax=1, cmap="viridis")
    labels = [" ".join(pairs[i]) + ("" if seen[i] else " (unseen)") for i in chosen]
    axes[0].set_yticks(range(len(chosen)), labels, fontsize=6)
    axes[0].set_xticks(range(len(chosen)), labels, fontsize=6, rotation=90)
    return figure
