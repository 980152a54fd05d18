"""An index in a folder that is searched from disk: collections larger than memory, on one machine.

SQLite keeps the rows, and in half precision the vectors that are new. faiss keeps the others in inverted
lists: files that never change once written, mapped into memory, so that a search reads the lists it visits
and nothing else. A row and its vector enter in one transaction, and a file of lists counts from the
transaction that names it: a process may be killed at any moment.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import CheckpointError, DataError
from wildsight.retrieval.collection import (
    EXACT_BELOW,
    Collection,
    Hit,
    Vectors,
    compare,
    draw,
    explained,
    hit,
    shared,
)
from wildsight.retrieval.inverted_lists import InvertedLists, Numbered, merged

PART = 256 << 20
TRAINING = 64
TRAINING_BYTES = 256 << 20
WANTED = 0.97
REGROW = 4.0
DEAD = 0.2
MANY = 16
ASK = 500
TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,
    path TEXT NOT NULL, stamp TEXT NOT NULL, copies TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS loose (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dead (number INTEGER PRIMARY KEY);
"""
NEW: dict[str, Any] = {"parts": [], "coarse": None, "grown": 0, "probes": 1, "written": 0}


def _explained(folder: Path) -> AbstractContextManager[None]:
    """What SQLite and faiss say, as one sentence."""
    return explained("the index", folder, "close the other program, check the disk, or restore a copy")


class DiskIndex(Collection):
    """An open index; one process writes, others may read meanwhile.

    Args:
        uri: the folder.
        width: D of the vectors.
        maker: identity of the model that makes the vectors; another one is refused.
        create: open for writing, and make the folder if it is not there.

    Raises:
        ConfigError: faiss is not installed.
        CheckpointError: the index was made by another model or width.
        DataError: no such index, damaged, or being written by another process.
    """

    def __init__(self, uri: str | Path, width: int, maker: str, *, create: bool = True) -> None:
        self.folder, self.width, self.maker = Path(uri), width, maker
        self.lists = InvertedLists(self.folder, width)
        rows = self.folder / "rows.sqlite"
        if not create and not rows.exists():
            raise DataError("no such index", where=uri, hint="make it with `wildsight retrieval index`")
        self._near: tuple[np.ndarray, np.ndarray] | None = None
        self._version = -1
        with _explained(self.folder):
            if create:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = sqlite3.connect(self.folder / "writer.sqlite", timeout=0) if create else None
            if self._lock:
                self._lock.execute("BEGIN EXCLUSIVE")
            self.base = sqlite3.connect(rows, timeout=60)
            if create:
                self.base.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + TABLES)
            self._agree()
            if create:
                self._sweep()
            self._waiting = self._count("loose")

    def _agree(self) -> None:
        """The folder remembers model and width, so that another one's vectors are never mixed in."""
        made_by = f"{self.width} {self.maker}"
        if self._lock:
            with self.base:
                self.base.execute("INSERT OR IGNORE INTO facts VALUES ('made by', ?)", (made_by,))
        if self._fact("made by", "") != made_by:
            self.close()
            hint = "use that model, or index again elsewhere"
            raise CheckpointError("was made by another model", where=self.folder, hint=hint)

    def _sweep(self) -> None:
        """Delete files that no transaction names: what a killed process left."""
        named = {*self._state("parts"), self._state("coarse")}
        for file in self.folder.glob("*.faiss"):
            if file.name not in named:
                file.unlink()

    def close(self) -> None:
        """Let the folder go."""
        self.lists.forget()
        self.base.close()
        if self._lock:
            self._lock.close()

    def _fact(self, name: str, default: str) -> str:
        found = self.base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return found[0] if found else default

    def _state(self, name: str) -> Any:
        return json.loads(self._fact(name, json.dumps(NEW[name])))

    def _remember(self, **state: Any) -> None:
        """Facts of the current transaction."""
        pairs = [(name, json.dumps(value)) for name, value in state.items()]
        self.base.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", pairs)

    def _count(self, table: str) -> int:
        return int(self.base.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def __len__(self) -> int:
        with _explained(self.folder):
            return self._count("rows")

    @property
    def kind(self) -> str:
        """``FLAT`` (exact) or ``IVF`` (approximate)."""
        with _explained(self.folder):
            return "IVF" if self._state("parts") else "FLAT"

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row without its vector."""
        with _explained(self.folder):
            for name, path, stamp, copies in self.base.execute("SELECT id, path, stamp, copies FROM rows"):
                yield {"id": name.hex(), "path": path, "stamp": stamp, "copies": copies}

    def put(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows with their ``vector`` in one transaction; a stored content keeps its vector."""
        add = "INSERT INTO rows (id, path, stamp, copies) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
        new = 0
        with _explained(self.folder), self.base:
            for row in rows:
                named = (bytes.fromhex(row["id"]), row["path"], row["stamp"], row["copies"])
                at = self.base.execute(add, named)
                if at.rowcount > 0:
                    vector = np.asarray(row["vector"], np.float16).tobytes()
                    self.base.execute("INSERT INTO loose VALUES (?, ?)", (at.lastrowid, vector))
                    new += 1
            if new < len(rows):
                self._rename(rows)
        self._near, self._waiting = None, self._waiting + new
        if self._waiting >= EXACT_BELOW:
            with _explained(self.folder):
                self._fold()

    def relabel(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """New paths of stored rows; their vectors stay."""
        with _explained(self.folder), self.base:
            self._rename(rows)

    def _rename(self, rows: Sequence[Mapping[str, Any]]) -> None:
        new = [(r["path"], r["stamp"], r["copies"], bytes.fromhex(r["id"])) for r in rows]
        self.base.executemany("UPDATE rows SET path = ?, stamp = ?, copies = ? WHERE id = ?", new)

    def remove(self, ids: Sequence[str]) -> None:
        """Delete rows by id; their vectors leave the lists when these are next written."""
        self._near = None
        with _explained(self.folder), self.base:
            for name in ids:
                key = (bytes.fromhex(name),)
                found = self.base.execute("SELECT number FROM rows WHERE id = ?", key).fetchone()
                if found and not self.base.execute("DELETE FROM loose WHERE number = ?", found).rowcount:
                    self.base.execute("INSERT INTO dead VALUES (?)", found)
                self.base.execute("DELETE FROM rows WHERE id = ?", key)
            self._waiting = self._count("loose")

    def settle(self) -> str:
        """Build what the number of rows asks for: lists from `EXACT_BELOW`, and as finely as they need."""
        with _explained(self.folder):
            if not self._state("parts") and self._waiting < EXACT_BELOW:
                return "FLAT"
            rows, dead = self._count("rows"), self._count("dead")
            many = len(self._state("parts")) > MANY + rows * 2 * self.width // PART
            if rows >= REGROW * self._state("grown") or dead > DEAD * rows or many:
                self._rebuild()
            elif self._waiting >= EXACT_BELOW:
                self._fold()
            if self._state("probes") == NEW["probes"]:
                self._tune()
        return self.kind

    def _loose(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers [n] and vectors [n, D] that are in no list."""
        if self._near is None:
            found = self.base.execute("SELECT number, vector FROM loose ORDER BY number").fetchall()
            stored = np.frombuffer(b"".join(v for _, v in found), np.float16).reshape(-1, self.width)
            self._near = np.array([n for n, _ in found], np.int64), stored.astype(np.float32)
        return self._near

    def _fold(self) -> None:
        """Move the loose vectors into a new part."""
        numbers, vectors = self._loose()
        coarse = self._state("coarse") or self._train(vectors, len(vectors))
        index = self.lists.empty(coarse)
        index.add_with_ids(vectors, numbers)
        part = self._save(index)
        with self.base:
            known = {"coarse": coarse, "grown": self._state("grown") or len(numbers)}
            self._remember(parts=[*self._state("parts"), part], **known)
            self.base.execute("DELETE FROM loose")
        self._near, self._waiting = None, 0

    def _rebuild(self) -> None:
        """Cluster anew for the present number of rows, and write every living vector into new parts."""
        rows = self._count("rows")
        coarse = self._train(self._thinned(rows), rows)
        before = [*self._state("parts"), self._state("coarse")]
        parts, index = list[str](), self.lists.empty(coarse)
        room = max(PART // (2 * self.width), 1)
        for numbers, vectors in self._stored():
            if index.ntotal + len(numbers) > room and index.ntotal:
                parts.append(self._save(index))
                index = self.lists.empty(coarse)
            index.add_with_ids(vectors, numbers)
        parts.append(self._save(index))
        with self.base:
            self._remember(parts=parts, coarse=coarse, grown=rows, probes=NEW["probes"])
            self.base.execute("DELETE FROM loose")
            self.base.execute("DELETE FROM dead")
        self._near, self._waiting = None, 0
        self.lists.forget()
        for name in filter(None, before):
            (self.folder / name).unlink(missing_ok=True)

    def _thinned(self, rows: int) -> np.ndarray:
        """Enough vectors [n, D], drawn evenly, to place the centres of the lists."""
        lists, rng = list_count(rows), np.random.default_rng(0)
        count = max(2 * lists, min(TRAINING * lists, TRAINING_BYTES // (4 * self.width)))
        return np.concatenate([v[rng.random(len(v)) < count / rows] for _, v in self._stored()])

    def _name(self) -> str:
        """Of a new file; no name is given twice."""
        with self.base:
            written = self._state("written") + 1
            self._remember(written=written)
        return f"{written:06d}.faiss"

    def _train(self, vectors: np.ndarray, rows: int) -> str:
        name = self._name()
        self.lists.train(vectors, list_count(rows), name)
        return name

    def _save(self, index: Any) -> str:
        name = self._name()
        self.lists.write(index, name)
        return name

    def _dead(self) -> np.ndarray:
        return np.array([n for (n,) in self.base.execute("SELECT number FROM dead")], np.int64)

    def _stored(self) -> Iterator[Numbered]:
        """Pages of living numbers [n] and vectors [n, D]: the lists, then the loose ones."""
        yield from self.lists.pages(self._state("parts"), self._dead())
        if self._waiting:
            yield self._loose()

    def vectors(self) -> Vectors:
        """Pages of ids and vectors [n, D]."""
        with _explained(self.folder):
            for numbers, vectors in self._stored():
                rows = self._rows_of(numbers)
                yield [rows[n][0] for n in numbers.tolist()], vectors

    def _keyed(self) -> Iterator[tuple[list[Any], np.ndarray]]:
        return ((numbers.tolist(), vectors) for numbers, vectors in self._stored())

    def _found(self, queries: np.ndarray, k: int) -> list[list[Any]]:
        return self._search(queries, k, self._state("probes"))[1].tolist()

    def _rows_of(self, numbers: np.ndarray) -> dict[int, tuple[str, str, str]]:
        """number -> id, path, copies."""
        found: dict[int, tuple[str, str, str]] = {}
        for start in range(0, len(numbers), ASK):
            some = numbers[start : start + ASK].tolist()
            ask = f"SELECT number, id, path, copies FROM rows WHERE number IN ({','.join('?' * len(some))})"
            found |= {n: (name.hex(), path, copies) for n, name, path, copies in self.base.execute(ask, some)}
        return found

    def nearest(self, queries: np.ndarray, k: int) -> list[list[Hit]]:
        """The ``k`` nearest rows of unit queries [Q, D], nearest first."""
        try:
            return self._answer(queries, k)
        except DataError:  # a writer may have replaced the files between two looks
            self.lists.forget()
            return self._answer(queries, k)

    def _answer(self, queries: np.ndarray, k: int) -> list[list[Hit]]:
        with _explained(self.folder), self._snapshot():
            cosines, numbers = self._search(queries, k, self._state("probes"))
            rows = self._rows_of(np.unique(numbers[numbers >= 0]))
        return [
            [hit(*rows[n], c) for n, c in zip(*line, strict=True) if n in rows]
            for line in zip(numbers.tolist(), cosines.tolist(), strict=True)
        ]

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """One state of the index, whatever a writer does meanwhile."""
        version = self.base.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._near, self._version = None, version
        self.base.execute("BEGIN")
        try:
            yield
        finally:
            self.base.rollback()

    def _search(self, queries: np.ndarray, k: int, probes: int) -> Numbered:
        """Cosines and numbers [Q, k] over all parts and the loose vectors; -1 where there is none."""
        asked = np.ascontiguousarray(queries, np.float32)
        found = self.lists.search(self._state("parts"), asked, k, probes, self._dead())
        found += self.lists.brute(asked, *self._loose(), k)
        nothing = np.full((len(asked), k), -1, np.int64)
        return merged([*found, (nothing.astype(np.float32), nothing)], k)

    def _tune(self) -> None:
        """The fewest lists to visit that find `WANTED` of the ten nearest of stored vectors."""
        keys, drawn = draw(self._keyed(), 200, seed=1)
        wanted = compare(self._keyed(), drawn, 11)
        most, probes = self.lists.open(self._state("parts")[0]).nlist, 2
        while probes < most:
            if shared(keys, self._search(drawn, 11, probes)[1].tolist(), wanted) >= WANTED:
                break
            probes = math.ceil(probes * 1.5)
        with self.base:
            self._remember(probes=min(probes, most))


def list_count(rows: int) -> int:
    """Number of lists: about four times the root of the rows, and no list without some ten rows.

    >>> list_count(1_000_000), list_count(100)
    (4000, 10)
    """
    return max(1, min(round(4 * rows**0.5), rows // 10))
