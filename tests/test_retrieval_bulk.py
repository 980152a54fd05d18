"""Embedding on Ray: the bits of the local path, and a shard whose worker is killed runs again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray")
pytest.importorskip("faiss")

from wildsight.errors import ConfigError, DataError
from wildsight.retrieval import SketchRetriever, bulk
from wildsight.retrieval.indexing import open_collection


def paint(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    (folder / "a-broken.png").write_bytes(b"no picture")
    (folder / "z-copy.png").write_bytes((folder / "003.png").read_bytes())
    return sorted(folder.iterdir())


def stored(retriever: SketchRetriever, uri: Path) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    with open_collection(uri, retriever.out_width, retriever.maker, create=False) as index:
        rows = sorted(index.rows(), key=lambda row: row["id"])
        vectors = {i: v.tobytes() for ids, many in index.vectors() for i, v in zip(ids, many, strict=True)}
    return rows, vectors


@pytest.fixture
def a_killed_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The first worker that takes the second batch ends by SIGKILL."""
    mark = tmp_path / "killed"
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else workers starve on a busy machine

    class Mortal(bulk.Embedder):
        def __call__(self, row: dict) -> dict:
            if row["number"] == 1 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(row)

    monkeypatch.setattr(bulk, "Embedder", Mortal)
    yield mark


@pytest.mark.slow
def test_ray_gives_the_bits_of_the_local_path(tmp_path: Path, a_killed_worker: Path) -> None:
    files = paint(tmp_path / "photos", 40)
    retriever = SketchRetriever("zero-shot", "nano-conv", image_size=32)
    local = retriever.index(files, tmp_path / "local.shelf")
    away = retriever.index(files, tmp_path / "ray.shelf", engine="ray", workers=1)
    assert a_killed_worker.exists()
    assert vars(local) == vars(away)
    assert (local.added, local.duplicates, len(local.errors)) == (40, 1, 1)
    assert stored(retriever, tmp_path / "local.shelf") == stored(retriever, tmp_path / "ray.shelf")


def test_what_ray_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    retriever = SketchRetriever("zero-shot", "nano-conv", image_size=32)
    with pytest.raises(ConfigError, match="workers=0"):
        retriever.index([], tmp_path / "a.shelf", engine="ray", workers=0)
    with pytest.raises(ConfigError, match="engine='dask'"):
        retriever.index([], tmp_path / "a.shelf", engine="dask")


def test_ray_that_does_not_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def slow(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(ray, "init", slow)
    retriever = SketchRetriever("zero-shot", "nano-conv", image_size=32)
    with pytest.raises(DataError, match=r"Ray does not start \(The current node timed out"):
        retriever.index(paint(tmp_path / "photos", 5), tmp_path / "a.shelf", engine="ray", workers=1)
