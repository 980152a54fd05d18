"""The index in a folder against the embedded Milvus and LanceDB: the same vectors, one core, a process each.

    pip install --target LANCE lancedb
    python benchmarks/retrieval_engines.py --packages LANCE --rows 200000 --width 64

Vectors are the ``clustered`` ones of `retrieval_index.py`; queries are new draws. Every engine stores
id, vector, path, stamp and copies. The folder and Milvus go through `open_collection`, as the product
does; LanceDB is used directly, with each of its indexes at several settings of its search. Build and
search are processes of their own, held to one core with their children; memory and CPU seconds (so that
other work on the machine does not count) are those of the process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "retrieval-engines"
ENGINES = ("folder", "milvus", "lancedb IVF_FLAT", "lancedb IVF_PQ", "lancedb IVF_HNSW_SQ")
SEARCHES: dict[str, list[dict[str, int]]] = {
    "IVF_FLAT": [{"nprobes": n} for n in (4, 8, 16, 32, 64)],
    "IVF_PQ": [{"nprobes": n, "refine_factor": r} for n in (16, 32, 64) for r in (5, 20)],
    "IVF_HNSW_SQ": [{"ef": e, "refine_factor": 2} for e in (50, 100, 200, 400)],
}
QUERIES = 200
ENOUGH = 0.95


def vectors(seed: int, rows: int, width: int) -> Iterator[np.ndarray]:
    from retrieval_index import draws

    return draws("clustered", width, seed, rows)


def family(pid: int) -> list[Path]:
    """The folders below /proc of a process and its children."""
    place = Path(f"/proc/{pid}")
    children = [c for task in (place / "task").iterdir() for c in (task / "children").read_text().split()]
    return [place, *(folder for child in children for folder in family(int(child)))]


def resident() -> dict[str, float]:
    """Resident MiB: in all, and what is not a mapped file."""
    sizes = {"VmRSS": 0.0, "RssAnon": 0.0}
    for place in family(os.getpid()):
        for line in (place / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in sizes:
                sizes[name] += int(value.split()[0]) / 1024
    return sizes


def spent() -> float:
    """CPU seconds so far."""
    ticks = 0
    for place in family(os.getpid()):
        words = (place / "stat").read_text().rpartition(")")[2].split()
        ticks += sum(
            int(word) for word in words[11:15]
        )  # user and system time, own and of children that ended
    return ticks / os.sysconf("SC_CLK_TCK")


def fields(number: int) -> dict[str, str]:
    from retrieval_index import name_of

    stored = {"path": f"photos/{number:09d}.jpg", "stamp": f"{number}-0", "copies": "{}"}
    return {"id": name_of(number), **stored}


def uri_of(engine: str, folder: Path) -> Path:
    return folder / {"folder": "photos.shelf", "milvus": "photos.db"}.get(engine, engine.split()[-1])


def build(engine: str, folder: Path, rows: int, width: int) -> dict[str, Any]:
    """Store everything and build the index; seconds and bytes."""
    begin = spent()
    if engine.startswith("lancedb"):
        stored = build_lance(uri_of(engine, folder), engine.split()[-1], rows, width)
    else:
        stored = build_own(uri_of(engine, folder), rows, width)
    place = uri_of(engine, folder)
    files = [place] if place.is_file() else [f for f in place.rglob("*") if f.is_file()]
    return {
        "store_cpu_seconds": stored - begin,
        "index_cpu_seconds": spent() - stored,
        "disk_bytes": sum(f.stat().st_size for f in files),
    }


def build_own(uri: Path, rows: int, width: int) -> float:
    from wildsight.retrieval.indexing import open_collection

    number = 0
    with open_collection(uri, width, "benchmark") as index:
        for chunk in vectors(1, rows, width):
            for start in range(0, len(chunk), 1000):
                some = chunk[start : start + 1000]
                index.put([{**fields(number + i), "vector": v} for i, v in enumerate(some)])
                number += len(some)
        stored = spent()
        index.settle()
    return stored


def build_lance(uri: Path, kind: str, rows: int, width: int) -> float:
    import lancedb
    import pyarrow as pa
    from lancedb import index

    names = ("id", "path", "stamp", "copies")
    schema = pa.schema([*((name, pa.string()) for name in names), ("vector", pa.list_(pa.float32(), width))])

    def batches() -> Iterator[Any]:
        number = 0
        for chunk in vectors(1, rows, width):
            told = [fields(number + i) for i in range(len(chunk))]
            number += len(chunk)
            columns = [pa.array([row[name] for row in told]) for name in names]
            flat = pa.array(chunk.astype(np.float32).ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, width))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    table = lancedb.connect(uri).create_table("photos", data=batches(), schema=schema)
    stored = spent()
    kinds = {"IVF_FLAT": index.IvfFlat, "IVF_PQ": index.IvfPq, "IVF_HNSW_SQ": index.IvfHnswSq}
    parts = {"IVF_FLAT": int(rows**0.5), "IVF_PQ": int(rows**0.5), "IVF_HNSW_SQ": max(rows // 2**20, 1)}
    more = {"num_sub_vectors": width // 4} if kind == "IVF_PQ" else {}
    config = kinds[kind](distance_type="dot", num_partitions=parts[kind], **more)
    table.create_index("vector", config=config)
    table.wait_for_index(["vector_idx"])
    return stored


def searches(
    engine: str, folder: Path, width: int
) -> Iterator[tuple[dict[str, int], Callable[[Any], set[str]]]]:
    """Settings of a search, and the ids of the ten nearest of a vector."""
    if not engine.startswith("lancedb"):
        from wildsight.retrieval.indexing import open_collection

        index = open_collection(uri_of(engine, folder), width, "benchmark", create=engine == "milvus")
        yield {}, lambda asked: {hit.id for hit in index.nearest(asked[None], 10)[0]}
        index.close()
        return
    import lancedb

    table = lancedb.connect(uri_of(engine, folder)).open_table("photos")
    for settings in SEARCHES[engine.split()[-1]]:

        def ask(asked: Any, settings: dict[str, int] = settings) -> set[str]:
            query = (
                table.search(asked)
                .distance_type("dot")
                .select(["id", "path", "copies", "_distance"])
                .limit(10)
            )
            for name, value in settings.items():
                query = getattr(query, name)(value)
            return {row["id"] for row in query.to_list()}

        yield settings, ask


def search(engine: str, folder: Path, width: int, wanted: list[list[str]]) -> dict[str, Any]:
    """Recall, milliseconds and memory at every setting; the fastest one with enough recall is `best`."""
    asked = np.concatenate(list(vectors(2, QUERIES, width)))
    tried = []
    for settings, ask in searches(engine, folder, width):
        for vector in asked[:20]:
            ask(vector)
        seconds, found, before = [], [], spent()
        for vector in asked:
            begin = time.perf_counter()
            found.append(ask(vector))
            seconds.append(time.perf_counter() - begin)
        used = spent() - before
        hits = [len(f & set(w)) for f, w in zip(found, wanted, strict=True)]
        tried.append(
            {
                "settings": settings,
                "recall_at_10": statistics.fmean(hits) / 10,
                "cpu_ms": 1e3 * used / len(asked),
                "wall_ms_median": 1e3 * statistics.median(seconds),
                "resident_mib": resident(),
            }
        )
    good = [t for t in tried if t["recall_at_10"] >= ENOUGH]
    best = min(good, key=lambda t: t["cpu_ms"]) if good else max(tried, key=lambda t: t["recall_at_10"])
    return {"best": best, "tried": tried}


def truth(rows: int, width: int) -> list[list[str]]:
    """Ids of the ten nearest of each query, exact."""
    from retrieval_index import largest, name_of

    raw = np.concatenate(list(vectors(1, rows, width)))
    asked = np.concatenate(list(vectors(2, QUERIES, width)))
    tops = [largest(asked[s : s + 50] @ raw.T, 10) for s in range(0, QUERIES, 50)]
    return [[name_of(int(n)) for n in line] for top in tops for line in top]


def child(part: str, engine: str, given: argparse.Namespace, folder: Path) -> Any:
    """A part in a process of its own on one core."""
    answer = folder / "answer.json"
    words = [sys.executable, __file__, "--part", part, "--engine", engine, "--folder", str(folder)]
    words += ["--rows", str(given.rows), "--width", str(given.width), "--answer", str(answer)]
    words += ["--packages", str(given.packages)] if given.packages else []
    one = {
        "OMP_NUM_THREADS": "1",
        "LANCE_CPU_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "PYTHONNOUSERSITE": "1",
    }
    subprocess.run(words, check=True, env={**os.environ, **one})
    return json.loads(answer.read_text())


def compare(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    wanted = truth(given.rows, given.width)
    (folder / "truth.json").write_text(json.dumps(wanted))
    found: dict[str, Any] = {}
    for engine in given.engine or ENGINES:
        built = child("build", engine, given, folder)
        found[engine] = {**built, **child("search", engine, given, folder)}
        place = uri_of(engine, folder)
        place.unlink() if place.is_file() else shutil.rmtree(place)
        print(
            engine, json.dumps(found[engine]["best"]), {k: round(v, 1) for k, v in built.items()}, flush=True
        )
    return found


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--rows", type=int, default=200_000)
    parse.add_argument("--width", type=int, default=64)
    parse.add_argument("--engine", action="append", choices=ENGINES)
    parse.add_argument("--packages", type=Path, help="folder that lancedb was installed to with --target")
    parse.add_argument("--part", choices=("build", "search"), help=argparse.SUPPRESS)
    parse.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parse.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    given = parse.parse_args()
    sys.path.append(str(given.packages or ""))
    if given.part:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        (engine,) = given.engine
        if given.part == "build":
            answer = build(engine, given.folder, given.rows, given.width)
        else:
            wanted = json.loads((given.folder / "truth.json").read_text())
            answer = search(engine, given.folder, given.width, wanted)
        given.answer.write_text(json.dumps(answer))
        return
    from wildsight.results import environment

    with tempfile.TemporaryDirectory(prefix="retrieval-engines-") as name:
        found = compare(given, Path(name))
    packages = {p: version(p) for p in ("faiss-cpu", "pymilvus", "milvus-lite", "lancedb")}
    told = {"rows": given.rows, "width": given.width, "engines": found, "packages": packages}
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**told, "environment": environment()}, indent=1) + "\n"
    (RESULTS / f"{given.rows}x{given.width}.json").write_text(text)


if __name__ == "__main__":
    main()
