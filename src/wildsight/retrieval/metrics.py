"""Ranking metrics of sketch retrieval, every definition that the field uses, under its own name.

For a query, r_1..r_N is the relevance along the ranked gallery, R its sum, P_i the precision at i. Galleries
are ranked by ascending distance, ties by the lower gallery index. Queries without a relevant photo are left
out and counted.

| name | definition |
|---|---|
| ``map_all`` | sum r_i P_i / R |
| ``map_all_voc`` | sum r_i max_{j>=i} P_j / R |
| ``map_200_hits`` | sum_{i<=k} r_i P_i / sum_{i<=k} r_i, 0 without a hit |
| ``map_200_mink_r`` | sum_{i<=k} r_i P_i / min(k, R) |
| ``map_200_voc`` | interpolated inside the cut, / min(k, R) |
| ``p_100``, ``p_200`` | hits among the first k / k |
| ``recall_1``, ``recall_10`` | whether a relevant photo is among the first k |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wildsight.errors import DataError

Floats: TypeAlias = npt.NDArray[Any]
"""Floats, or packed codes where a distance for them is given."""
Bools = npt.NDArray[np.bool_]
BLOCK = 256
NAMES = (
    "map_all", "map_all_voc", "map_200_hits", "map_200_voc", "map_200_mink_r", "p_100", "p_200",
    "recall_1", "recall_10",
)  # fmt: skip


def ranked_relevance(distance: Floats, relevant: Bools) -> Bools:
    """Relevance [Q, N] along each query's ranking; stable, so that ties keep the gallery's order."""
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(relevant, order, axis=1)


def average_precision(hits: Bools, *, voc: bool = False) -> tuple[Floats, Floats]:
    """(sum of r_i P_i, number of hits) [Q] along rankings [Q, N]; ``voc`` interpolates P from the right."""
    found = hits.cumsum(1)
    precision = found / np.arange(1, hits.shape[1] + 1)
    if voc:
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (precision * hits).sum(1), found[:, -1].astype(np.float64)


def scores_of_rankings(hits: Bools) -> dict[str, Floats]:
    """Every metric for each query, from rankings [Q, N] with at least one hit each.

    >>> scores = scores_of_rankings(np.array([[1, 0, 1, 0, 0, 1, 1]], bool))
    >>> [round(float(scores[n][0]), 4) for n in ("map_all", "map_all_voc")]
    [0.6845, 0.7024]
    """
    total, count = average_precision(hits)
    out: dict[str, Floats] = {
        "map_all": total / count,
        "map_all_voc": average_precision(hits, voc=True)[0] / count,
        **cut_scores(hits, 200),
    }
    for k in (100, 200):
        out[f"p_{k}"] = np.asarray(hits[:, :k].sum(1) / k)
    for k in (1, 10):
        out[f"recall_{k}"] = np.asarray(hits[:, :k].any(1), np.float64)
    return out


def cut_scores(hits: Bools, k: int) -> dict[str, Floats]:
    """The three normalisations of mAP at ``k``."""
    cut, least = hits[:, :k], np.minimum(k, hits.sum(1))
    total, found = average_precision(cut)
    return {
        f"map_{k}_hits": np.where(found > 0, total / np.maximum(found, 1), 0.0),
        f"map_{k}_voc": average_precision(cut, voc=True)[0] / least,
        f"map_{k}_mink_r": total / least,
    }


def score(
    query: Floats,
    gallery: Floats,
    query_label: npt.NDArray[np.int64],
    gallery_label: npt.NDArray[np.int64],
    distance: Callable[[Floats, Floats], Floats] | None = None,
) -> dict[str, float]:
    """Metrics averaged over the queries, in blocks of bounded memory.

    Args:
        query: [Q, D] embeddings or codes.
        gallery: [N, D].
        query_label: [Q] class numbers.
        gallery_label: [N].
        distance: ([q, D], [N, D]) -> [q, N]; Euclidean by default.

    Returns:
        `NAMES`, then ``map_all_by_class`` (mean over classes of class means), ``queries`` and ``skipped``.

    Raises:
        DataError: no query has a relevant photo.
    """
    measure = distance or squared_distances
    many: list[dict[str, Floats]] = []
    kept: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(query), BLOCK):
        part = slice(start, start + BLOCK)
        relevant = query_label[part, None] == gallery_label[None]
        has = relevant.any(1)
        if has.any():
            hits = ranked_relevance(measure(query[part][has], gallery), relevant[has])
            many.append(scores_of_rankings(hits))
            kept.append(query_label[part][has])
    if not many:
        raise DataError("no query has a photo of its class", hint="check the labels of both sides")
    whole = {name: np.concatenate([m[name] for m in many]) for name in NAMES}
    label = np.concatenate(kept)
    by_class = [float(whole["map_all"][label == c].mean()) for c in np.unique(label)]
    means = {name: float(values.mean()) for name, values in whole.items()}
    counts = {"queries": float(len(label)), "skipped": float(len(query) - len(label))}
    return {**means, "map_all_by_class": float(np.mean(by_class)), **counts}


def squared_distances(one: Floats, two: Floats) -> Floats:
    """Squared Euclidean distances [A, B]; they rank as the distances do."""
    out: Floats = (one * one).sum(1)[:, None] + (two * two).sum(1)[None] - 2 * one @ two.T
    return out
