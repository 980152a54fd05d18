"""The retrieval index at size: a million vectors, a collection larger than its memory, twenty kills.

    python benchmarks/retrieval_index.py --part million
    python benchmarks/retrieval_index.py --part large
    python benchmarks/retrieval_index.py --part kills

Everything goes through `open_collection`, as `wildsight retrieval index` and `search` do. Vectors:

- ``clustered``: 4,000 classes, sizes by Zipf's law; a class centre and a picture's deviation from it are
  Gaussian, 1.5 to 1 in deviation, and the variance of the i-th direction falls as 1/i; to unit length. Of
  3,000 such vectors the local dimension (maximum likelihood, 20 neighbours) is 12.5 and the mean cosine to
  the ten nearest .64; of 2,350 real photographs' MobileNetV2 features, brought to 128 dimensions, 11.7 and
  .61. With a million it is printed beside the recall.
- ``uniform``: directions without any structure, which no embedding has: the case that lists cannot help.

Queries are new draws, not stored vectors. Ratios are to the same queries in the same process, all engines
with the same number of threads, taken in turn; each is the best of its rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from wildsight.retrieval.indexing import open_collection

RESULTS = Path(__file__).parent / "results" / "retrieval-index"
CHUNK = 10_000
CLASSES = 4000
GIB = 2**30


def draws(kind: str, width: int, seed: int, count: int) -> Iterator[np.ndarray]:
    """Unit vectors in chunks [<= CHUNK, width], the same for the same seed."""
    fixed = np.random.default_rng(7)
    spread = (1.0 / np.arange(1, width + 1)) ** 0.5
    centres = 1.5 * fixed.standard_normal((CLASSES, width)).astype(np.float32) * spread.astype(np.float32)
    size = 1.0 / np.arange(1, CLASSES + 1)
    for start in range(0, count, CHUNK):
        rng = np.random.default_rng([seed, start])
        vectors = rng.standard_normal((min(CHUNK, count - start), width), dtype=np.float32)
        if kind == "clustered":
            vectors *= spread.astype(np.float32)
            vectors += centres[rng.choice(CLASSES, len(vectors), p=size / size.sum())]
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def name_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def build(uri: Path, chunks: Iterator[np.ndarray], width: int) -> dict[str, float]:
    begin, number = time.perf_counter(), 0
    with open_collection(uri, width, "benchmark") as index:
        for chunk in chunks:
            rows = []
            for vector in chunk:
                fields = {"path": f"photos/{number:09d}.jpg", "stamp": f"{number}-0", "copies": "{}"}
                rows.append({"id": name_of(number), "vector": vector, **fields})
                number += 1
            for start in range(0, len(rows), 1000):
                index.put(rows[start : start + 1000])
        stored = time.perf_counter() - begin
        kind = index.settle()
        settled = time.perf_counter() - begin - stored
        own = index.recall()
    return {
        "rows": number,
        "kind": kind,
        "store_seconds": stored,
        "settle_seconds": settled,
        "own_recall": own,
    }


def best(calls: dict[str, Callable[[], Any]], queries: int, rounds: int) -> dict[str, float]:
    """Queries per second of each engine: the best of its rounds, the engines taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: queries / min(times) for name, times in seconds.items()}


def largest(scores: np.ndarray, k: int) -> np.ndarray:
    some = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1)
    return np.take_along_axis(some, order, axis=1)


def local_dimension(similarities: np.ndarray) -> float:
    """Levina and Bickel's estimate from the distances of 20 neighbours."""
    away = np.sqrt(np.maximum(2 - 2 * similarities, 1e-12))
    return float(1 / np.mean(np.log(away[:, -1:] / away[:, :-1])))


def bytes_in(folder: Path, pattern: str = "*") -> int:
    return sum(f.stat().st_size for f in folder.glob(pattern))


def million(kind: str, rows: int, width: int, threads: int, folder: Path) -> dict[str, Any]:
    uri = folder / f"{kind}.shelf"
    built = build(uri, draws(kind, width, 1, rows), width)
    raw = np.concatenate(list(draws(kind, width, 1, rows)))
    asked = np.concatenate(list(draws(kind, width, 2, 200)))
    flat = faiss.IndexFlatIP(width)
    flat.add(raw)
    truth, near = [], []
    for start in range(0, len(asked), 50):
        scores = asked[start : start + 50] @ raw.T
        top = largest(scores, 21)
        truth.append(top[:, :10])
        near.append(np.take_along_axis(scores, top, axis=1))
    wanted = np.concatenate(truth)
    with open_collection(uri, width, "benchmark", create=False) as index:
        found = index.nearest(asked, 10)
        hits = [len({h.id for h in f} & {name_of(n) for n in w}) for f, w in zip(found, wanted, strict=True)]
        one = asked[:20]
        many = {
            "shelf": lambda: index.nearest(asked, 10),
            "faiss_flat": lambda: flat.search(asked[:100], 10),
            "numpy": lambda: largest(asked[:100] @ raw.T, 10),
        }
        single = {
            "shelf": lambda: [index.nearest(q[None], 10) for q in one],
            "faiss_flat": lambda: [flat.search(q[None], 10) for q in one],
            "numpy": lambda: [largest(q[None] @ raw.T, 10) for q in one],
        }
        together = best(many, 100, 5)
        together["shelf"] *= 2
        apart = best(single, len(one), 5)
        probes = index._state("probes")
        lists = index.lists.open(index._state("parts")[0]).nlist
    size = rows * width * 4
    return {
        **built,
        "width": width,
        "lists": lists,
        "visited": probes,
        "local_dimension": local_dimension(np.concatenate(near)),
        "recall_at_10": float(np.mean(hits)) / 10,
        "queries_per_second_batched": together,
        "queries_per_second_one_by_one": apart,
        "ratio_batched": {n: together["shelf"] / together[n] for n in ("numpy", "faiss_flat")},
        "ratio_one_by_one": {n: apart["shelf"] / apart[n] for n in ("numpy", "faiss_flat")},
        "raw_bytes": size,
        "disk_bytes": {"lists": bytes_in(uri, "*.faiss"), "with_rows_and_paths": bytes_in(uri)},
        "disk_over_raw": bytes_in(uri) / size,
        "threads": threads,
    }


def memory() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    wanted = ("RssAnon", "RssFile", "VmRSS", "VmHWM")
    return {k: int(v.split()[0]) * 1024 for k, v in (x.split(":") for x in lines) if k in wanted}


class Peak(threading.Thread):
    """Largest resident sizes over the life of the process, seen every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most: dict[str, int] = memory()
        self.start()

    def run(self) -> None:
        while True:
            self.most = {k: max(v, self.most[k]) for k, v in memory().items()}
            time.sleep(0.02)


def large_build(uri: Path, rows: int, width: int) -> dict[str, Any]:
    """Build, and compare 100 queries with every vector as it passes."""
    asked = np.concatenate(list(draws("clustered", width, 2, 100)))
    best_scores, best_numbers, done = np.full((100, 10), -2.0), np.zeros((100, 10), int), 0

    def watched() -> Iterator[np.ndarray]:
        nonlocal best_scores, best_numbers, done
        for chunk in draws("clustered", width, 1, rows):
            scores = np.concatenate([best_scores, asked @ chunk.T], axis=1)
            numbers = np.concatenate([best_numbers, np.tile(np.arange(done, done + len(chunk)), (100, 1))], 1)
            top = largest(scores, 10)
            best_scores, best_numbers = (np.take_along_axis(x, top, axis=1) for x in (scores, numbers))
            done += len(chunk)
            yield chunk

    peak = Peak()
    built = build(uri, watched(), width)
    return {**built, "peak": peak.most, "truth": best_numbers.tolist()}


def large_search(uri: Path, width: int, truth: list[list[int]]) -> dict[str, Any]:
    """Search under a hard limit of 2 GiB for what a process allocates."""
    resource.setrlimit(resource.RLIMIT_DATA, (2 * GIB, 2 * GIB))
    for file in uri.glob("*.faiss"):
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    peak = Peak()
    asked = np.concatenate(list(draws("clustered", width, 2, 100)))
    with open_collection(uri, width, "benchmark", create=False) as index:
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            found = [index.nearest(q[None], 10)[0] for q in asked]
            seconds.append((time.perf_counter() - begin) / len(asked))
        after = memory()
        for start in range(20):
            more = np.concatenate(list(draws("clustered", width, 100 + start, 100)))
            index.nearest(more, 10)
    pairs = zip(found, truth, strict=True)
    hits = [len({h.id for h in f} & {name_of(n) for n in w}) for f, w in pairs]
    return {
        "recall_at_10": float(np.mean(hits)) / 10,
        "seconds_per_query_cold": seconds[0],
        "seconds_per_query_warm": seconds[1],
        "memory_after_200_queries": after,
        "peak_over_2200_queries": peak.most,
    }


def large(rows: int, width: int, folder: Path) -> dict[str, Any]:
    uri, words = (
        folder / "large.shelf",
        [sys.executable, __file__, "--width", str(width), "--rows", str(rows)],
    )
    parts: dict[str, Any] = {}
    for part in ("large-build", "large-search"):
        answer, told = folder / f"{part}.json", folder / "large-build.json"
        command = [*words, "--part", part, "--folder", str(uri), "--answer", str(answer), "--told", str(told)]
        subprocess.run(command, check=True)
        parts[part] = json.loads(answer.read_text())
    parts["large-build"].pop("truth")
    return {
        "width": width,
        "raw_bytes": rows * width * 4,
        "disk_bytes": {"lists": bytes_in(uri, "*.faiss"), "with_rows_and_paths": bytes_in(uri)},
        "build": parts["large-build"],
        "search": parts["large-search"],
    }


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import retrieval_index as own
from wildsight.retrieval import disk_index, indexing, milvus
indexing.BATCH = 4
for module in (milvus, disk_index):
    module.EXACT_BELOW = 64
disk_index.REGROW = 1.2
files = sorted(Path(sys.argv[2]).rglob("*.png"))
index = indexing.open_collection(sys.argv[3], 12, "benchmark")
print("ready", flush=True)
indexing.Indexer(index, own.colours, Path(sys.argv[2])).run(files)
index.close()
print("done", flush=True)
"""


def colours(files: Any) -> Any:
    """Unit vectors of the mean colours on a 2 x 2 grid, slowly."""
    from wildsight.images import load_image

    time.sleep(0.01)
    vectors = np.stack([np.asarray(load_image(f).resize((2, 2)), np.float32).ravel() - 128 for f in files])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.ones(len(files), bool), []


def kills(name: str, count: int, folder: Path) -> dict[str, Any]:
    """Index real files, kill the process at random moments, and compare what the index holds."""
    from PIL import Image

    photos, uri, rng = folder / f"photos-{name}", folder / name, np.random.default_rng(20)
    photos.mkdir()
    for number in range(240):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:03d}.png")
    words = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(photos), str(uri)]
    killed, held, finished = 0, [], 0
    while killed < count:
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(float(rng.uniform(0.0, 0.25)))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        if child.wait() not in (0, -signal.SIGKILL):
            raise SystemExit(f"the child ended with {child.returncode}")
        if child.returncode == -signal.SIGKILL:
            killed += 1
        else:
            finished += 1
            extra = photos / f"new-{finished}"
            extra.mkdir()
            for number in range(240):
                pixels = np.random.default_rng([finished, number]).integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(extra / f"{number:03d}.png")
        with open_collection(uri, 12, "benchmark") as index:
            held.append(len(index))
    subprocess.run(words, check=True, capture_output=True)
    files = sorted(photos.rglob("*.png"))
    with open_collection(uri, 12, "benchmark", create=False) as index:
        paths = [Path(row["path"]) for row in index.rows()]
        stored = {i: v for ids, vectors in index.vectors() for i, v in zip(ids, vectors, strict=True)}
        ids = [row["id"] for row in index.rows()]
        own = colours(files)[0]
        first = [hits[0].path for hits in index.nearest(own, 1)]
        kind = index.kind
    right = dict(zip(files, own, strict=True))
    away = max(float(np.abs(right[p] - stored[i]).max()) for p, i in zip(paths, ids, strict=True))
    return {
        "kills": killed,
        "runs_that_finished_before_their_kill": finished,
        "rows_after_each_run": held,
        "photos": len(files),
        "rows": len(paths),
        "lost": len(set(files) - set(paths)),
        "doubled": len(paths) - len(set(paths)),
        "vectors_lost_or_doubled": abs(len(stored) - len(files)),
        "largest_difference_of_a_vector": away,
        "photos_that_are_their_own_nearest": int(sum(a == b for a, b in zip(first, files, strict=True))),
        "kind": kind,
    }


def write(name: str, result: dict[str, Any]) -> None:
    from wildsight.results import environment

    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, "environment": environment()}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--part", choices=("million", "large", "kills", "large-build", "large-search"))
    parse.add_argument("--rows", type=int)
    parse.add_argument("--width", type=int)
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--folder", type=Path)
    parse.add_argument("--answer", type=Path)
    parse.add_argument("--told", type=Path)
    given = parse.parse_args()
    faiss.omp_set_num_threads(given.threads)
    if given.part in ("large-build", "large-search"):
        if given.part == "large-build":
            answer = large_build(given.folder, given.rows, given.width)
        else:
            truth = json.loads(given.told.read_text())["truth"]
            answer = large_search(given.folder, given.width, truth)
        given.answer.write_text(json.dumps(answer))
        return
    folder = Path(tempfile.mkdtemp(prefix="retrieval-index-"))
    try:
        with threadpool_limits(given.threads):
            if given.part == "million":
                rows, width = given.rows or 1_000_000, given.width or 128
                for kind in ("clustered", "uniform"):
                    write(f"million-{kind}", million(kind, rows, width, given.threads, folder))
                    shutil.rmtree(folder / f"{kind}.shelf")
            elif given.part == "large":
                width = given.width or 768
                write("large", large(given.rows or 4 * GIB // (4 * width) + 1, width, folder))
            else:
                write("kills", {name: kills(name, 20, folder) for name in ("photos.shelf", "photos.db")})
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
