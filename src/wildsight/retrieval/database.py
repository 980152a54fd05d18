"""The vector database: one collection of photos, in an embedded file or on a Milvus cluster by its address.

Rows are keyed by the SHA-256 of the picture's bytes: storing one twice changes nothing, so that an
interrupted indexing goes on where it stopped, a moved picture keeps its row, and duplicates share one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from wildsight.errors import CheckpointError, ConfigError, DataError, WildSightError

PREFIX = "wildsight_"
EXACT_BELOW = 50_000
PAGE = 1000
WRITE = 500
HNSW = {"M": 16, "efConstruction": 120}
EF = 128
FIELDS = ["id", "path", "stamp", "copies"]


@dataclass(frozen=True)
class Hit:
    """A found photo: content hash, path, Euclidean distance in [0, 2], other paths of the same content."""

    id: str
    path: Path
    distance: float
    copies: tuple[Path, ...] = ()


def _client(uri: str) -> Any:
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise ConfigError("pymilvus is not installed", mend="pip install 'wildsight[index]'") from error
    if "://" not in uri:  # the embedded server logs calls that it lacks, and clients do without
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    return MilvusClient(uri)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """The database's own exceptions as one sentence."""
    try:
        yield
    except WildSightError:
        raise
    except Exception as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        mend = "close the other program, check the file, or restore a copy"
        if "://" in uri:
            mend = "check the address and that the server runs"
        raise DataError(f"the database does not answer ({text})", where=uri, mend=mend) from error


class Database:
    """An open collection.

    Args:
        uri: path of an embedded file (``photos.db``), or a cluster's address (``http://host:19530``).
        width: D of the vectors.
        maker: identity of the model that makes the vectors, letters and digits; another one is refused.
        create: make the collection if it is not there.

    Raises:
        ConfigError: pymilvus is not installed.
        CheckpointError: the collection was made by another model or width.
        DataError: the database does not answer, is damaged, or is in use by another process.
    """

    def __init__(self, uri: str | Path, width: int, maker: str, *, create: bool = True) -> None:
        self.uri, self.width, self.maker = str(uri), width, maker
        local = "://" not in self.uri
        if local and not create and not Path(self.uri).exists():
            raise DataError("no such index", where=uri, mend="make it with `wildsight retrieval index`")
        if local:
            Path(self.uri).parent.mkdir(parents=True, exist_ok=True)
        with _explained(self.uri):
            self.client = _client(self.uri)
            self.name = f"{PREFIX}{width}_{maker}"
            if not self.client.has_collection(self.name):
                self._refuse_others()
                self._create()
            self.client.load_collection(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending and let the file go."""
        with _explained(self.uri):
            self.client.close()

    def _create(self) -> None:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("path", DataType.VARCHAR, max_length=4096)
        schema.add_field("stamp", DataType.VARCHAR, max_length=64)
        schema.add_field("copies", DataType.VARCHAR, max_length=65535)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.width)
        self.client.create_collection(self.name, schema=schema, index_params=self._index("FLAT"))

    def _index(self, kind: str) -> Any:
        params = self.client.prepare_index_params()
        build = HNSW if kind == "HNSW" else {}
        params.add_index("vector", index_name="vector", index_type=kind, metric_type="IP", params=build)
        return params

    def _refuse_others(self) -> None:
        """The collection's name carries model and width, so that another one's vectors are never mixed in."""
        if any(name.startswith(PREFIX) for name in self.client.list_collections()):
            self.client.close()
            raise CheckpointError(
                "was made by another model", where=self.uri, mend="use that model, or index again elsewhere"
            )

    def __len__(self) -> int:
        with _explained(self.uri):
            rows = self.client.query(self.name, filter="", output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row without its vector."""
        yield from self._pages(FIELDS)

    def vectors(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Pages of ids and vectors [n, D]."""
        page: list[dict[str, Any]] = []
        for row in self._pages(["id", "vector"]):
            page.append(row)
            if len(page) == PAGE:
                yield [r["id"] for r in page], np.array([r["vector"] for r in page], np.float32)
                page = []
        if page:
            yield [r["id"] for r in page], np.array([r["vector"] for r in page], np.float32)

    def _pages(self, fields: list[str]) -> Iterator[dict[str, Any]]:
        with _explained(self.uri):
            pages = self.client.query_iterator(self.name, batch_size=PAGE, filter="", output_fields=fields)
            while rows := pages.next():
                yield from rows
            pages.close()

    def put(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows (`FIELDS` and ``vector``), replacing those with the same id."""
        with _explained(self.uri):
            for start in range(0, len(rows), WRITE):
                self.client.upsert(self.name, [dict(r) for r in rows[start : start + WRITE]])

    def remove(self, ids: Sequence[str]) -> None:
        """Delete rows by id."""
        with _explained(self.uri):
            for start in range(0, len(ids), WRITE):
                self.client.delete(self.name, ids=list(ids[start : start + WRITE]))

    def get(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Whole rows by id."""
        with _explained(self.uri):
            return [dict(r) for r in self.client.get(self.name, ids=list(ids), output_fields=["*"])]

    @property
    def kind(self) -> str:
        """``FLAT`` (exact) or ``HNSW`` (approximate)."""
        with _explained(self.uri):
            return str(self.client.describe_index(self.name, "vector")["index_type"])

    def settle(self) -> str:
        """Flush, and choose the index that the number of rows asks for: exact below `EXACT_BELOW`."""
        wanted = "FLAT" if len(self) < EXACT_BELOW else "HNSW"
        with _explained(self.uri):
            self.client.flush(self.name)
            if self.kind != wanted:
                self.client.release_collection(self.name)
                self.client.drop_index(self.name, "vector")
                self.client.create_index(self.name, self._index(wanted))
                self.client.load_collection(self.name)
        return wanted

    def nearest(self, queries: np.ndarray, k: int) -> list[list[Hit]]:
        """The ``k`` nearest rows of unit queries [Q, D], nearest first."""
        options = {"params": {"ef": max(EF, k)}} if self.kind == "HNSW" else {}
        with _explained(self.uri):
            found = self.client.search(
                self.name,
                data=[q.tolist() for q in queries.astype(np.float32)],
                limit=k,
                search_params=options,
                output_fields=["path", "copies"],
            )
        return [[_hit(row) for row in rows] for rows in found]

    def exact(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """Ids of the ``k`` nearest rows by comparing with every vector, page by page."""
        best = np.full((len(queries), 0), 0, np.float32)
        names: list[list[str]] = [[] for _ in queries]
        for ids, vectors in self.vectors():
            scores = np.concatenate([best, queries @ vectors.T], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            names = [[(old + ids)[j] for j in row] for old, row in zip(names, order, strict=True)]
            best = np.take_along_axis(scores, order, axis=1)
        return names

    def recall(self, k: int = 10, *, samples: int = 100, seed: int = 0) -> float:
        """Share of the exact ``k`` nearest that the index finds, for stored vectors drawn at random."""
        if self.kind == "FLAT":
            return 1.0
        drawn = _reservoir(self.vectors(), samples, np.random.default_rng(seed))
        found = self.nearest(drawn, k)
        pairs = zip(found, self.exact(drawn, k), strict=True)
        return float(np.mean([len({h.id for h in hits} & set(ids)) / len(ids) for hits, ids in pairs]))


def _reservoir(
    pages: Iterator[tuple[list[str], np.ndarray]], count: int, rng: np.random.Generator
) -> np.ndarray:
    """``count`` rows drawn evenly from pages of vectors."""
    kept: list[np.ndarray] = []
    seen = 0
    for _, vectors in pages:
        for vector in vectors:
            seen += 1
            if len(kept) < count:
                kept.append(vector)
            elif (place := int(rng.integers(seen))) < count:
                kept[place] = vector
    return np.stack(kept)


def _hit(row: Mapping[str, Any]) -> Hit:
    entity = row.get("entity", row)
    distance = float(np.sqrt(max(0.0, 2.0 - 2.0 * float(row["distance"]))))
    copies = tuple(Path(p) for p in json.loads(entity["copies"] or "{}"))
    return Hit(str(row["id"]), Path(entity["path"]), distance, copies)
