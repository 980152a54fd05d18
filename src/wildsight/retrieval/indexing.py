"""Keeping an index in step with folders: what is new, what moved, what went, what is there twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import WildSightError
from wildsight.files import sha256
from wildsight.retrieval.collection import Collection

BATCH = 32
Embed = Callable[[Sequence[Path]], tuple[np.ndarray, np.ndarray, list[WildSightError]]]


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
        database: the open collection.
        embed: files -> unit vectors [n, D] of the readable ones, flags [N], faults.
        root: rows of files below it that are gone are removed; None removes nothing.
    """

    def __init__(self, database: Collection, embed: Embed, root: Path | None) -> None:
        self.database, self.embed, self.root = database, embed, root
        self.rows = {row["id"]: _Row.of(row) for row in database.rows()}
        self.known = {path: row.id for row in self.rows.values() for path in row.places}
        self.changed: set[str] = set()
        self.report = IndexReport()

    def run(self, files: Iterable[Path], progress: Callable[[int], Any] | None = None) -> IndexReport:
        """Bring the collection in step with ``files``; each batch is stored before the next begins."""
        seen: set[str] = set()
        waiting: dict[str, Path] = {}
        for file in files:
            seen.add(str(file))
            self._look(file, waiting)
            if len(waiting) >= BATCH:
                self._store(waiting)
            if progress:
                progress(1)
        self._store(waiting)
        self._forget(seen)
        self._rewrite()
        self.report.kind = self.database.settle()
        self.report.total, self.report.recall = len(self.database), self.database.recall()
        return self.report

    def _look(self, file: Path, waiting: dict[str, Path]) -> None:
        """Sort one file: unchanged, moved, a duplicate, or new (then it waits for its vector)."""
        try:
            stamp = _stamp(file)
            row = self.rows.get(self.known.get(str(file), ""))
            if row is not None and row.places.get(str(file)) == stamp:
                self.report.unchanged += 1
                return
            name = sha256(file)
        except (OSError, WildSightError) as error:
            self.report.errors.append(f"{file}: {error}")
            return
        self._leave(file, name)
        if name in self.rows:
            gone = [p for p in self.rows[name].places if not Path(p).exists()]
            self.report.moved += bool(gone)
            self.report.duplicates += not gone
            for path in gone:
                del self.rows[name].places[path]
            self.rows[name].places[str(file)] = stamp
            self.changed.add(name)
        elif name in waiting:
            self._store(waiting)
            self._look(file, waiting)
        else:
            waiting[name] = file

    def _leave(self, file: Path, name: str) -> None:
        """The file's former content no longer lies there."""
        before = self.known.get(str(file))
        if before is not None and before != name and before in self.rows:
            self.rows[before].places.pop(str(file), None)
            self.changed.add(before)

    def _store(self, waiting: dict[str, Path]) -> None:
        if not waiting:
            return
        names, files = list(waiting), list(waiting.values())
        waiting.clear()
        vectors, ok, errors = self.embed(files)
        self.report.errors += [str(e) for e in errors]
        good = [(n, f) for n, f, fine in zip(names, files, ok, strict=True) if fine]
        rows = []
        for (name, file), vector in zip(good, vectors, strict=True):
            self.rows[name] = _Row(name, {str(file): _stamp(file)})
            self.known[str(file)] = name
            rows.append({**self.rows[name].fields(), "vector": vector.tolist()})
        self.database.put(rows)
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
        self.database.remove(gone)
        self.report.removed = len(gone)
        self.database.relabel([self.rows[i].fields() for i in self.changed if self.rows[i].places])
