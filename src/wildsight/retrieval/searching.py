"""Ranking photos for sketches: the nearest ones of an index, and the scores of a whole gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image

from wildsight.retrieval.codes import Codes, hamming
from wildsight.retrieval.indexing import open_collection
from wildsight.retrieval.metrics import score
from wildsight.retrieval.result import SearchResult
from wildsight.retrieval.sketch import looks_like_photo

PHOTO_LIKE = "looks like a photo, not like a sketch"


def search_index(
    index: str | Path,
    maker: str,
    queries: np.ndarray,
    pictures: Sequence[Image],
    files: Sequence[Path | None],
    k: int,
) -> list[SearchResult]:
    """The ``k`` nearest photos of an index for each query.

    Args:
        index: its address. maker: identity of the model that made the queries.
        queries: [Q, D] unit embeddings.
        pictures: the sketches themselves. files: theirs, or None.
        k: photos per sketch.

    Raises:
        CheckpointError: the index was made by another model.
        DataError: no such index, or the database does not answer.
    """
    if not len(queries):
        return []
    with open_collection(index, queries.shape[1], maker, create=False) as collection:
        nearest = collection.nearest(queries, k)
    return [
        SearchResult(file, tuple(hits), (PHOTO_LIKE,) if looks_like_photo(picture) else ())
        for file, picture, hits in zip(files, pictures, nearest, strict=True)
    ]


def score_embeddings(
    sides: tuple[np.ndarray, np.ndarray], labels: tuple[list[str], list[str]], codes: Codes | None
) -> dict[str, float]:
    """Every metric of ranking all photos for every sketch.

    Args:
        sides: unit embeddings of sketches [Q, D] and photos [N, D].
        labels: their classes.
        codes: rank by these binary codes; None ranks by distance.

    Raises:
        DataError: no sketch has a photo of its class.
    """
    numbers = {name: number for number, name in enumerate(sorted({*labels[0], *labels[1]}))}
    query_label, photo_label = (np.array([numbers[name] for name in side]) for side in labels)
    if codes is None:
        return score(*sides, query_label, photo_label)
    return score(codes.encode(sides[0]), codes.encode(sides[1]), query_label, photo_label, hamming)
