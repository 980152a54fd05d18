"""The index on real files in the embedded database: new, moved, gone, copied, killed, damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pymilvus")

from wildsight.errors import CheckpointError, DataError, WildSightError
from wildsight.images import load_image
from wildsight.retrieval import milvus as module
from wildsight.retrieval.indexing import Indexer, IndexReport
from wildsight.retrieval.milvus import MilvusIndex

WIDTH = 12


def embed(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[WildSightError]]:
    """Unit vectors of mean colours on a 2 x 2 grid."""
    vectors, ok, errors = [], [], []
    for file in files:
        try:
            vector = np.asarray(load_image(file).resize((2, 2)), np.float32).ravel() - 128
            vectors.append(vector / np.linalg.norm(vector))
            ok.append(True)
        except WildSightError as error:
            ok.append(False)
            errors.append(error)
    return np.array(vectors, np.float32).reshape(-1, WIDTH), np.array(ok), errors


def paint(folder: Path, count: int, start: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(start, start + count):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        files.append(folder / f"{number:03d}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def update(uri: Path, root: Path) -> IndexReport:
    with MilvusIndex(uri, WIDTH, "maker") as database:
        return Indexer(database, embed, root).run(sorted(root.rglob("*.png")))


def paths(uri: Path) -> list[str]:
    with MilvusIndex(uri, WIDTH, "maker", create=False) as database:
        return sorted(row["path"] for row in database.rows())


def test_the_life_of_an_index(tmp_path: Path) -> None:
    root, uri = tmp_path / "photos", tmp_path / "photos.db"
    files = paint(root / "a", 6)
    first = update(uri, root)
    assert (first.added, first.total, first.kind, first.recall) == (6, 6, "FLAT", 1.0)
    assert update(uri, root).unchanged == 6

    (root / "b").mkdir()
    files[0].rename(root / "b" / "moved.png")
    shutil.copy(files[1], root / "b" / "copy.png")
    files[2].unlink()
    paint(root / "a", 1, start=20)
    (root / "a" / "broken.png").write_bytes(b"no picture")
    report = update(uri, root)
    assert (report.added, report.moved, report.duplicates, report.removed, report.total) == (1, 1, 1, 1, 6)
    assert len(report.errors) == 1
    assert "broken.png" in report.errors[0]
    assert str(root / "b" / "moved.png") in paths(uri)
    assert str(files[2]) not in paths(uri)

    with MilvusIndex(uri, WIDTH, "maker") as database:
        hit = database.nearest(embed([files[1]])[0], 1)[0][0]
    assert {hit.path, *hit.copies} == {files[1], root / "b" / "copy.png"}
    assert hit.distance == pytest.approx(0.0, abs=1e-3)

    files[1].unlink()
    assert update(uri, root).removed == 0
    assert str(root / "b" / "copy.png") in paths(uri)


def test_a_file_with_new_content_has_a_new_row(tmp_path: Path) -> None:
    root, uri = tmp_path / "photos", tmp_path / "photos.db"
    files = paint(root, 3)
    update(uri, root)
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(files[0])
    report = update(uri, root)
    assert (report.added, report.removed, report.total) == (1, 1, 3)


def test_search_agrees_with_numpy(tmp_path: Path) -> None:
    root, uri = tmp_path / "photos", tmp_path / "photos.db"
    files = paint(root, 40)
    update(uri, root)
    vectors = embed(files)[0]
    query = vectors[:5] + 0.1
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    with MilvusIndex(uri, WIDTH, "maker") as database:
        found = [[h.path for h in hits] for hits in database.nearest(query, 7)]
        exact = database.exact(query, 7)
        names = {row["id"]: Path(row["path"]) for row in database.rows()}
    for row, hits, ids in zip(query, found, exact, strict=True):
        order = np.argsort(-(vectors @ row), kind="stable")[:7]
        assert hits == [files[i] for i in order]
        assert [names[i] for i in ids] == hits


def test_a_large_index_is_approximate_and_says_its_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXACT_BELOW", 30)
    root, uri = tmp_path / "photos", tmp_path / "photos.db"
    paint(root, 40)
    report = update(uri, root)
    assert report.kind == "HNSW"
    assert 0.5 < report.recall <= 1.0
    assert update(uri, root).kind == "HNSW"


def test_another_model_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    root, uri = tmp_path / "photos", tmp_path / "photos.db"
    paint(root, 3)
    update(uri, root)
    for maker, width in (("other", WIDTH), ("maker", 8)):
        with pytest.raises(CheckpointError, match="another model"):
            MilvusIndex(uri, width, maker)
    assert len(paths(uri)) == 3


def test_a_missing_index_and_an_unreachable_cluster_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such index"):
        MilvusIndex(tmp_path / "none.db", WIDTH, "maker", create=False)


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "photos.db"
    file.write_bytes(b"this is no database")
    with pytest.raises(DataError, match="does not answer"):
        MilvusIndex(file, WIDTH, "maker")


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_retrieval_index import WIDTH, embed
from wildsight.retrieval import indexing
from wildsight.retrieval.milvus import MilvusIndex
indexing.BATCH = 4
calls = 0
def dying(files):
    global calls
    calls += 1
    if calls == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return embed(files)
root = Path(sys.argv[1])
database = MilvusIndex(sys.argv[2], WIDTH, "maker")
indexing.Indexer(database, dying, root).run(sorted(root.rglob("*.png")))
"""


@pytest.mark.slow
def test_a_killed_indexing_goes_on_without_loss_or_double(tmp_path: Path) -> None:
    root, uri = tmp_path / "photos", tmp_path / "photos.db"
    files = paint(root, 18)
    for kill in (3, 2):
        words = [sys.executable, "-c", SCRIPT, str(root), str(uri), str(Path(__file__).parent), str(kill)]
        ended = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert len(paths(uri)) < 18  # opened and closed here, so that the next process can have it
    report = update(uri, root)
    assert report.total == 18
    assert paths(uri) == sorted(map(str, files))
