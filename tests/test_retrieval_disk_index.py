"""The index in a folder: exact while small, lists when large, whole after any kill, one writer at a time."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss")

from test_retrieval_index import WIDTH, embed, paint
from wildsight.errors import CheckpointError, DataError
from wildsight.retrieval import disk_index
from wildsight.retrieval.collection import compare, draw
from wildsight.retrieval.disk_index import DiskIndex
from wildsight.retrieval.indexing import Indexer, open_collection


def unit(count: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def rows(vectors: np.ndarray, start: int = 0) -> list[dict]:
    return [
        {
            "id": hashlib.sha256(str(n).encode()).hexdigest(),
            "path": f"{n}.png",
            "stamp": "1-1",
            "copies": "{}",
            "vector": vector,
        }
        for n, vector in enumerate(vectors, start)
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists from 50 rows on, and parts of 60."""
    monkeypatch.setattr(disk_index, "EXACT_BELOW", 50)
    monkeypatch.setattr(disk_index, "PART", 60 * 2 * WIDTH)


def test_a_small_index_is_exact(tmp_path: Path) -> None:
    vectors, asked = unit(40), unit(5, seed=1)
    with open_collection(tmp_path / "a.shelf", WIDTH, "maker") as index:
        index.put(rows(vectors))
        index.put(rows(vectors[:3]))
        assert (index.settle(), len(index), index.recall()) == ("FLAT", 40, 1.0)
        found = [[h.path.stem for h in hits] for hits in index.nearest(asked, 7)]
        ids = index.exact(asked, 7)
        names = {row["id"]: row["path"] for row in index.rows()}
    for query, hits, near in zip(asked, found, ids, strict=True):
        order = np.argsort(-(vectors @ query), kind="stable")[:7]
        assert hits == [str(i) for i in order]
        assert [names[i] for i in near] == [f"{i}.png" for i in order]


@pytest.mark.usefixtures("small")
def test_a_large_index_has_lists_and_forgets_what_is_removed(tmp_path: Path) -> None:
    vectors = unit(300)
    with DiskIndex(tmp_path / "a.shelf", WIDTH, "maker") as index:
        for start in range(0, 300, 30):
            index.put(rows(vectors[start : start + 30], start))
        assert index.settle() == "IVF"
        assert index.recall() >= 0.9
        assert len(list(index.rows())) == sum(len(ids) for ids, _ in index.vectors()) == 300
    names = [row["id"] for row in rows(vectors)]
    with DiskIndex(tmp_path / "a.shelf", WIDTH, "maker") as index:
        index.remove(names[:20])
        found = index.nearest(vectors[:40], 3)
        assert [hits[0].id == name for hits, name in zip(found, names, strict=False)] == [False] * 20 + [
            True
        ] * 20
        assert all(len(hits) == 3 for hits in found)
        index.put([{**rows(vectors[:1])[0], "path": "again.png"}])
        assert index.nearest(vectors[:1], 1)[0][0].path == Path("again.png")
        index.remove(names[20:100])
        index.settle()
        assert not len(index._dead())
        assert len(index) == sum(len(ids) for ids, _ in index.vectors()) == 201
        named = {*index._state("parts"), index._state("coarse")}
    assert {f.name for f in (tmp_path / "a.shelf").glob("*.faiss")} == named


@pytest.mark.usefixtures("small")
def test_a_reader_sees_what_a_writer_stored_meanwhile(tmp_path: Path) -> None:
    vectors = unit(120)
    with DiskIndex(tmp_path / "a.shelf", WIDTH, "maker") as writer:
        writer.put(rows(vectors[:20]))
        with DiskIndex(tmp_path / "a.shelf", WIDTH, "maker", create=False) as reader:
            for stop in (20, 40, 80, 120):
                writer.put(rows(vectors[:stop]))
                writer.settle()
                last = reader.nearest(vectors[stop - 1 : stop], 2)[0]
                assert last[0].path == Path(f"{stop - 1}.png")
                assert last[1].path != last[0].path
            with pytest.raises(DataError, match="does not answer"):
                DiskIndex(tmp_path / "a.shelf", WIDTH, "maker")


def test_faults_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such index"):
        DiskIndex(tmp_path / "a.shelf", WIDTH, "maker", create=False)
    with DiskIndex(tmp_path / "a.shelf", WIDTH, "maker") as index:
        index.put(rows(unit(3)))
    for maker, width in (("other", WIDTH), ("maker", 8)):
        with pytest.raises(CheckpointError, match="another model"):
            DiskIndex(tmp_path / "a.shelf", width, maker)
    (tmp_path / "b.shelf").mkdir()
    (tmp_path / "b.shelf" / "rows.sqlite").write_bytes(
        b"this is no database, and long enough to be looked at" * 9
    )
    with pytest.raises(DataError, match="does not answer"):
        DiskIndex(tmp_path / "b.shelf", WIDTH, "maker", create=False)


def test_compare_and_draw_agree_with_the_whole_matrix() -> None:
    vectors, asked = unit(333), unit(4, seed=2)

    def pages():
        for start in range(0, 333, 50):
            yield list(range(start, min(333, start + 50))), vectors[start : start + 50]

    assert compare(pages(), asked, 6) == np.argsort(-(asked @ vectors.T), axis=1)[:, :6].tolist()
    keys, drawn = draw(pages(), 40, seed=3)
    assert len(set(keys)) == 40
    assert np.array_equal(drawn, vectors[keys])


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_retrieval_index import WIDTH, embed
from wildsight.retrieval import disk_index, indexing
indexing.BATCH, disk_index.EXACT_BELOW, disk_index.REGROW = 4, 40, 1.2
files = sorted(Path(sys.argv[1]).rglob("*.png"))
with disk_index.DiskIndex(sys.argv[2], WIDTH, "maker") as index:
    print("ready", flush=True)
    indexing.Indexer(index, embed, Path(sys.argv[1])).run(files)
"""


@pytest.mark.slow
def test_twenty_kills_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_index, "EXACT_BELOW", 40)
    root, uri, rng = tmp_path / "photos", tmp_path / "photos.shelf", np.random.default_rng(20)
    words = [sys.executable, "-c", SCRIPT, str(root), str(uri), str(Path(__file__).parent)]
    for number in range(20):
        paint(root / str(number), 40, start=40 * number)
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    files = sorted(root.rglob("*.png"))
    with DiskIndex(uri, WIDTH, "maker") as index:
        before = len(index)
        report = Indexer(index, embed, root).run(files)
        assert report.added == len(files) - before
        assert sorted(row["path"] for row in index.rows()) == list(map(str, files))
        stored = [i for ids, _ in index.vectors() for i in ids]
        assert len(stored) == len(set(stored)) == len(files) == 800
        own = index.nearest(embed(files)[0], 1)
    assert sum(hits[0].path == file for hits, file in zip(own, files, strict=True)) >= 790
