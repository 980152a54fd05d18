"""How good frozen features are: a linear classifier on pooled maps of real class-folder sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tools.nano.conv_train import look
from tools.nano.pictures import PROBES, Pixels, probe_set
from wildsight.backbones.backbone import Backbone

TAPS = (8, 16)


def pooled(backbone: Backbone, pictures: Pixels, *, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Features of all pictures: (means of the maps at strides 8 and 16 side by side, pooled last layer)."""
    taps, last = [], []
    for start in range(0, len(pictures), batch):
        maps, embedding = look(backbone, torch.from_numpy(pictures[start : start + batch].copy()))
        taps.append(torch.cat([maps[s].mean((2, 3)) for s in TAPS], dim=1))
        last.append(embedding)
    return torch.cat(taps).numpy(), torch.cat(last).numpy()


def linear_probe(
    train: np.ndarray, train_labels: list[str], test: np.ndarray, test_labels: list[str]
) -> float:
    """Test accuracy in [0, 1] of a logistic regression on standardised features [N, D]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    return float(classifier.fit(train, train_labels).score(test, test_labels))


def share_of_the_way(low: float, value: float, high: float) -> float:
    """Where ``value`` lies between ``low`` (0) and ``high`` (1).

    >>> share_of_the_way(0.1, 0.4, 0.6)
    0.6
    """
    return round((value - low) / (high - low), 4) if high != low else 0.0


def scores(
    data: Path, fresh: Backbone, taught: Backbone, teacher: Backbone, size: int
) -> dict[str, dict[str, float]]:
    """Per set that is there: accuracies of the three networks on the same taps and the share of the way.

    ``teacher_last`` and ``share_of_last`` compare with the teacher's pooled last layer instead, which is
    deeper than anything that nano-conv has.
    """
    table = {}
    for name in PROBES:
        if not (data / name).is_dir():
            continue
        (train, train_labels), (test, test_labels) = probe_set(data, name, size)
        row: dict[str, float] = {}
        for who, backbone in (("random", fresh), ("nano-conv", taught), ("teacher", teacher)):
            (taps, last), (test_taps, test_last) = pooled(backbone, train), pooled(backbone, test)
            row[who] = linear_probe(taps, train_labels, test_taps, test_labels)
        row["teacher_last"] = linear_probe(last, train_labels, test_last, test_labels)
        row["share"] = share_of_the_way(row["random"], row["nano-conv"], row["teacher"])
        row["share_of_last"] = share_of_the_way(row["random"], row["nano-conv"], row["teacher_last"])
        table[name] = row
    return table
