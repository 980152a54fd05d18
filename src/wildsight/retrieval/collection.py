"""What every index offers, whichever engine keeps it: rows in, rows out, the nearest of a query.

Rows are keyed by the SHA-256 of the picture's bytes: storing one twice changes nothing, so that an
interrupted indexing goes on where it stopped, a moved picture keeps its row, and duplicates share one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from wildsight.errors import DataError, WildSightError

EXACT_BELOW = 50_000
Vectors = Iterator[tuple[list[str], np.ndarray]]


@dataclass(frozen=True)
class Hit:
    """A found photo: content hash, path, Euclidean distance in [0, 2], other paths of the same content."""

    id: str
    path: Path
    distance: float
    copies: tuple[Path, ...] = ()


@contextmanager
def explained(what: str, where: str | Path, hint: str) -> Iterator[None]:
    """An engine's own exceptions as one sentence: ``what`` does not answer."""
    try:
        yield
    except WildSightError:
        raise
    except Exception as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{what} does not answer ({text})", where=where, hint=hint) from error


class Collection(ABC):
    """An open index of unit vectors; a context manager that closes it."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """``FLAT``: search is exact; another name: approximate."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Write what is pending and let the index go."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row (``id, path, stamp, copies``) without its vector."""

    @abstractmethod
    def vectors(self) -> Vectors:
        """Pages of ids and vectors [n, D]."""

    @abstractmethod
    def put(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows with their ``vector``; all of them or none where there are at most a few hundred."""

    @abstractmethod
    def relabel(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """New paths of stored rows; their vectors stay."""

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Delete rows by id."""

    @abstractmethod
    def settle(self) -> str:
        """Choose and build what the number of rows asks for; returns ``kind``."""

    @abstractmethod
    def nearest(self, queries: np.ndarray, k: int) -> list[list[Hit]]:
        """The ``k`` nearest rows of unit queries [Q, D], nearest first."""

    def exact(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """Ids of the ``k`` nearest rows by comparing with every vector, page by page."""
        return compare(self.vectors(), queries, k)

    def recall(self, k: int = 10, *, samples: int = 100, seed: int = 0) -> float:
        """Share of the exact ``k`` nearest that the index finds, itself left out, for random stored rows."""
        if self.kind == "FLAT":
            return 1.0
        keys, drawn = draw(self._keyed(), samples, seed)
        return shared(keys, self._found(drawn, k + 1), compare(self._keyed(), drawn, k + 1))

    def _keyed(self) -> Iterator[tuple[list[Any], np.ndarray]]:
        """Pages of keys and vectors [n, D]; a key is what `_found` gives."""
        return self.vectors()

    def _found(self, queries: np.ndarray, k: int) -> list[list[Any]]:
        """Keys of the ``k`` nearest."""
        return [[h.id for h in hits] for hits in self.nearest(queries, k)]


def compare(pages: Iterator[tuple[list[Any], np.ndarray]], queries: np.ndarray, k: int) -> list[list[Any]]:
    """Keys of the ``k`` vectors with the largest products with each query [Q, D], largest first."""
    best = np.full((len(queries), 0), 0, np.float32)
    keys: list[list[Any]] = [[] for _ in queries]
    for names, vectors in pages:
        scores = np.concatenate([best, queries @ vectors.T], axis=1)
        order, old = _largest(scores, k), best.shape[1]
        keys = [
            [row[j] if j < old else names[j - old] for j in line]
            for row, line in zip(keys, order.tolist(), strict=True)
        ]
        best = np.take_along_axis(scores, order, axis=1)
    return keys


def draw(
    pages: Iterator[tuple[list[Any], np.ndarray]], count: int, seed: int
) -> tuple[list[Any], np.ndarray]:
    """Keys and vectors [n, D] of ``count`` rows drawn evenly, in one pass."""
    rng, ranks, keys = np.random.default_rng(seed), np.zeros(0), list[Any]()
    drawn: np.ndarray | None = None
    for names, vectors in pages:
        new = rng.random(len(names))
        limit = ranks[-1] if len(ranks) == count else 1.0
        chosen = np.flatnonzero(new <= limit)
        keys += [names[i] for i in chosen]
        drawn = vectors[chosen] if drawn is None else np.concatenate([drawn, vectors[chosen]])
        ranks = np.concatenate([ranks, new[chosen]])
        kept = np.argsort(ranks, kind="stable")[:count]
        keys, drawn, ranks = [keys[i] for i in kept], drawn[kept], ranks[kept]
    return keys, np.zeros((0, 0), np.float32) if drawn is None else drawn


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` largest of each row, largest first; ties by the lower column."""
    if scores.shape[1] > 8 * k:
        cut = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
        scores = np.where(scores >= cut, scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def shared(itself: Sequence[Any], found: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> float:
    """Mean share of ``wanted`` that is in ``found``, each query's own id left out of both.

    >>> shared(["a"], [["a", "b", "d"]], [["a", "b", "c"]])
    0.5
    """
    parts = []
    for name, near, true in zip(itself, found, wanted, strict=True):
        expected = {i for i in true if i != name} or {name}
        parts.append(len(expected & set(near)) / len(expected))
    return float(np.mean(parts)) if parts else 1.0


def hit(identity: str, path: str, copies: str, cosine: float) -> Hit:
    """A hit from a row's fields and the cosine to the query."""
    distance = float(np.sqrt(max(0.0, 2.0 - 2.0 * cosine)))
    others = () if copies in ("", "{}") else tuple(Path(p) for p in json.loads(copies))
    return Hit(identity, Path(path), distance, others)
