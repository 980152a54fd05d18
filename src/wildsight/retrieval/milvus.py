"""One collection of photos in a Milvus database: an embedded file, or a cluster by its address."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import CheckpointError, DataError, needs
from wildsight.retrieval.collection import EXACT_BELOW, Collection, Hit, explained, hit

PREFIX = "wildsight_"
PAGE = 1000
WRITE = 500
HNSW = {"M": 16, "efConstruction": 120}
EF = 128
FIELDS = ["id", "path", "stamp", "copies"]
_users: Counter[str] = Counter()


def _client(uri: str) -> Any:
    # Forks of a process that has talked to a server, such as loaders, can crash in handlers of gRPC.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    with needs("pymilvus", "index"):
        from pymilvus import MilvusClient
    if "://" not in uri:  # the embedded server logs calls that it lacks, and clients do without
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    return MilvusClient(uri)


def _release(uri: str) -> None:
    """Stop the embedded server of a file, which else keeps it locked until the process ends."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(uri)


def _explained(uri: str) -> AbstractContextManager[None]:
    """The database's own exceptions as one sentence."""
    hint = "close the other program, check the file, or restore a copy"
    if "://" in uri:
        hint = "check the address and that the server runs"
    return explained("the database", uri, hint)


class MilvusIndex(Collection):
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
        self.uri = str(uri) if "://" in str(uri) else str(Path(uri).absolute())
        self.width, self.maker = width, maker
        local = "://" not in self.uri
        if local and not create and not Path(self.uri).exists():
            raise DataError("no such index", where=uri, hint="make it with `wildsight retrieval index`")
        if local:
            Path(self.uri).parent.mkdir(parents=True, exist_ok=True)
        with _explained(self.uri):
            self.client = _client(self.uri)
            _users[self.uri] += 1
            self.name = f"{PREFIX}{width}_{maker}"
            if not self.client.has_collection(self.name):
                self._refuse_others()
                self._create()
            self.client.load_collection(self.name)

    def close(self) -> None:
        """Write what is pending; the last to close lets the file go."""
        with _explained(self.uri):
            self.client.close()
            _users[self.uri] -= 1
            if "://" not in self.uri and not _users[self.uri]:
                _release(self.uri)

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
            self.close()
            raise CheckpointError(
                "was made by another model", where=self.uri, hint="use that model, or index again elsewhere"
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

    def relabel(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """New paths of stored rows; their vectors stay."""
        for start in range(0, len(rows), WRITE):
            fields = {r["id"]: r for r in rows[start : start + WRITE]}
            with _explained(self.uri):
                stored = self.client.get(self.name, ids=list(fields), output_fields=["*"])
            self.put([{**dict(row), **fields[row["id"]]} for row in stored])

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


def _hit(row: Mapping[str, Any]) -> Hit:
    entity = row.get("entity", row)
    return hit(str(row["id"]), entity["path"], entity["copies"], float(row["distance"]))
