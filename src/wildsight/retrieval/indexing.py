"""Keeping an index in step with folders: what is new, what moved, what went, what is there twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import WildSightError
from wildsight.files import sha256
from wildsight.retrieval.collection import Collection

BATCH = 32
ON_DISK = ".shelf"
"""What the name of an index on disk ends with."""
Outcome = tuple[np.ndarray, np.ndarray, list[WildSightError]]
Embed = Callable[[Sequence[Path]], Outcome]
Engine = Callable[[Iterator[list[Path]]], Iterable[tuple[list[Path], Outcome]]]


def open_collection(uri: str | Path, width: int, maker: str, *, create: bool = True) -> Collection:
    """The engine that an address names: a folder ``*.shelf`` is a `DiskIndex`, everything else Milvus.

    Args:
        uri: ``photos.db`` (Milvus, embedded), ``photos.shelf`` (a folder; searched from disk, for
            collections larger than memory) or a Milvus cluster's address.
        width: D of the vectors.
        maker: identity of the model that makes the vectors; another one is refused.
        create: make the index if it is not there.

    Raises:
        ConfigError: the engine is not installed.
        CheckpointError: the index was made by another model or width.
        DataError: no such index, damaged, in use by another process, or the cluster does not answer.
    """
    if "://" not in str(uri) and Path(uri).suffix == ON_DISK:
        from wildsight.retrieval.disk_index import DiskIndex

        return DiskIndex(uri, width, maker, create=create)
    from wildsight.retrieval.milvus import MilvusIndex

    return MilvusIndex(uri, width, maker, create=create)


@dataclass
class IndexReport:
    """What an indexing did.

    Attributes:
        added, moved, duplicates, removed, unchanged: numbers of files.
        errors: one per file that could not be read.
        total: rows afterwards.
        kind: ``FLAT`` (exact) or ``HNSW`` (approximate).
        recall: share of the exact ten nearest that the index finds, measured on its own rows.
    """

    added: int = 0
    moved: int = 0
    duplicates: int = 0
    removed: int = 0
    unchanged: int = 0
    errors: list[str] = field(default_factory=list)
    total: int = 0
    kind: str = "FLAT"
    recall: float = 1.0

    def lines(self) -> list[str]:
        """What was done, and how exact a search is."""
        kind = "exact" if self.kind == "FLAT" else "approximate"
        return [
            f"{self.total} photos: {self.added} added, {self.moved} moved, {self.duplicates} copies, "
            f"{self.removed} removed, {self.unchanged} as they were",
            f"search is {kind}; recall of the ten nearest measured here: {self.recall:.3f}",
        ]


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass
class _Row:
    """A row without its vector: ``places`` maps every path of the content to its stamp."""

    id: str
    places: dict[str, str]

    @classmethod
    def of(cls, row: dict[str, Any]) -> _Row:
        return cls(row["id"], {row["path"]: row["stamp"], **json.loads(row["copies"] or "{}")})

    def fields(self) -> dict[str, str]:
        (path, stamp), *others = self.places.items()
        return {"id": self.id, "path": path, "stamp": stamp, "copies": json.dumps(dict(others))}


class Indexer:
    """One pass over files.

    Args:
        collection: the open index.
        embed: files -> unit vectors [n, D] of the readable ones, flags [N], faults.
        root: rows of files below it that are gone are removed; None removes nothing.
        engine: runs ``embed`` over batches of files and gives each batch with its outcome, in order.
    """

    def __init__(
        self, collection: Collection, embed: Embed, root: Path | None, engine: Engine | None = None
    ) -> None:
        self.collection, self.root = collection, root
        self.engine = engine or (lambda batches: ((batch, embed(batch)) for batch in batches))
        self.rows = {row["id"]: _Row.of(row) for row in collection.rows()}
        self.known = {path: row.id for row in self.rows.values() for path in row.places}
        self.changed: set[str] = set()
        self.names: dict[Path, str] = {}
        self.report = IndexReport()

    def run(self, files: Iterable[Path], progress: Callable[[int], Any] | None = None) -> IndexReport:
        """Bring the collection in step with ``files``; each batch is stored as soon as it is embedded."""
        seen: set[str] = set()
        done = progress or (lambda _: None)
        for batch, outcome in self.engine(self._batches(files, seen, done)):
            self._store(batch, *outcome)
            done(len(batch))
        self._forget(seen)
        self._rewrite()
        self.report.kind = self.collection.settle()
        self.report.total, self.report.recall = len(self.collection), self.collection.recall()
        return self.report

    def _batches(
        self, files: Iterable[Path], seen: set[str], done: Callable[[int], Any]
    ) -> Iterator[list[Path]]:
        """New contents, `BATCH` at a time; what is known already is sorted out on the way."""
        batch: list[Path] = []
        for file in files:
            seen.add(str(file))
            if self._is_new(file):
                batch.append(file)
            else:
                done(1)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _is_new(self, file: Path) -> bool:
        """Sort one file: unchanged, moved, a duplicate, unreadable, or new (True: it waits for a vector)."""
        try:
            stamp = _stamp(file)
            row = self.rows.get(self.known.get(str(file), ""))
            if row is not None and row.places.get(str(file)) == stamp:
                self.report.unchanged += 1
                return False
            name = sha256(file)
        except (OSError, WildSightError) as error:
            self.report.errors.append(f"{file}: {error}")
            return False
        self._leave(file, name)
        self.known[str(file)] = name
        if name not in self.rows:
            self.rows[name] = _Row(name, {str(file): stamp})
            self.names[file] = name
            return True
        gone = [p for p in self.rows[name].places if not Path(p).exists()]
        self.report.moved += bool(gone)
        self.report.duplicates += not gone
        for path in gone:
            del self.rows[name].places[path]
        self.rows[name].places[str(file)] = stamp
        self.changed.add(name)
        return False

    def _leave(self, file: Path, name: str) -> None:
        """The file's former content no longer lies there."""
        before = self.known.get(str(file))
        if before is not None and before != name and before in self.rows:
            self.rows[before].places.pop(str(file), None)
            self.changed.add(before)

    def _store(
        self, files: Sequence[Path], vectors: np.ndarray, ok: np.ndarray, errors: Sequence[WildSightError]
    ) -> None:
        """Rows of the readable files; an unreadable content is forgotten, so that it is tried again."""
        self.report.errors += [str(e) for e in errors]
        names = [self.names.pop(file) for file in files]
        for name, fine in zip(names, ok, strict=True):
            if not fine:
                del self.rows[name]
                self.changed.discard(name)
        good = [name for name, fine in zip(names, ok, strict=True) if fine]
        rows = [
            {**self.rows[name].fields(), "vector": vector.tolist()}
            for name, vector in zip(good, vectors, strict=True)
        ]
        self.collection.put(rows)
        self.report.added += len(rows)

    def _forget(self, seen: set[str]) -> None:
        """Drop the paths below the root that were not seen and are gone."""
        if self.root is None:
            return
        for row in self.rows.values():
            for path in [p for p in row.places if p not in seen and Path(p).is_relative_to(self.root)]:
                if not Path(path).exists():
                    del row.places[path]
                    self.changed.add(row.id)

    def _rewrite(self) -> None:
        """Store the rows whose paths changed; remove those that have none left."""
        gone = [i for i in self.changed if not self.rows[i].places]
        self.collection.remove(gone)
        self.report.removed = len(gone)
        self.collection.relabel([self.rows[i].fields() for i in self.changed if self.rows[i].places])
