"""Inverted lists of faiss in files that never change: written once, mapped, read where visited."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import needs

PAGE = 16_384
ROUNDS = 8
Numbered = tuple[np.ndarray, np.ndarray]


class InvertedLists:
    """Parts in a folder: every one has the same centres, and lists of numbers [n] and unit vectors [n, D].

    Vectors are kept in half precision, and compared by inner product.

    Args:
        folder: where the files lie.
        width: D.

    Raises:
        ConfigError: faiss is not installed.
    """

    def __init__(self, folder: Path, width: int) -> None:
        with needs("faiss", "index"):
            import faiss
        self.faiss: Any = faiss
        self.folder, self.width = folder, width
        self._opened: dict[str, Any] = {}

    def forget(self) -> None:
        """Unmap every part."""
        self._opened.clear()

    def train(self, vectors: np.ndarray, lists: int, name: str) -> None:
        """Write centres that fit ``vectors``, with empty lists."""
        faiss, kind = self.faiss, self.faiss.ScalarQuantizer.QT_fp16
        centres = faiss.IndexFlatIP(self.width)
        index = faiss.IndexIVFScalarQuantizer(
            centres, self.width, lists, kind, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.niter, index.cp.seed, index.cp.min_points_per_centroid = ROUNDS, 0, 1
        index.train(np.ascontiguousarray(vectors))
        self.write(index, name)

    def empty(self, centres: str) -> Any:
        """A part in memory with nothing in it; ``add_with_ids`` fills it."""
        return self.faiss.read_index(str(self.folder / centres))

    def write(self, index: Any, name: str) -> None:
        """Write a part; it is on the disk when this returns."""
        file = self.folder / name
        self.faiss.write_index(index, str(file))
        with file.open("rb") as stream:
            os.fsync(stream.fileno())

    def open(self, name: str) -> Any:
        """A part whose lists are mapped, not read."""
        if name not in self._opened:
            flags = self.faiss.IO_FLAG_MMAP | self.faiss.IO_FLAG_READ_ONLY
            index = self.faiss.read_index(str(self.folder / name), flags)
            self.faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
            self._opened[name] = index
        return self._opened[name]

    def pages(self, names: Sequence[str], dead: np.ndarray) -> Iterator[Numbered]:
        """All numbers [n] and vectors [n, D] but the dead ones, some `PAGE` at a time."""
        page, held = list[Numbered](), 0
        for numbers, codes in self._stored(names):
            page.append((numbers, codes))
            held += len(numbers)
            if held >= PAGE:
                yield self._living(page, dead)
                page, held = [], 0
        if page:
            yield self._living(page, dead)

    def _stored(self, names: Sequence[str]) -> Iterator[Numbered]:
        """Numbers and codes of every list, as they lie in the files."""
        to_array = self.faiss.rev_swig_ptr
        for name in names:
            part = self.open(name)
            lists = part.invlists
            for at in range(part.nlist):
                if size := lists.list_size(at):
                    codes = to_array(lists.get_codes(at), size * lists.code_size)
                    yield to_array(lists.get_ids(at), size), codes

    def _living(self, page: Sequence[Numbered], dead: np.ndarray) -> Numbered:
        numbers = np.concatenate([n for n, _ in page])
        codes = np.concatenate([c for _, c in page]).view(np.float16)
        alive = ~np.isin(numbers, dead)
        return numbers[alive], codes.reshape(-1, self.width)[alive].astype(np.float32)

    def search(
        self, names: Sequence[str], queries: np.ndarray, k: int, probes: int, dead: np.ndarray
    ) -> list[Numbered]:
        """Cosines and numbers [Q, k] from every part, ``probes`` lists visited; -1 where there is none."""
        faiss, parts = self.faiss, [self.open(name) for name in names]
        if not parts:
            return []
        probes = min(probes, parts[0].nlist)
        if len(dead):
            gone = faiss.IDSelectorBatch(dead)
            choice = faiss.SearchParametersIVF(nprobe=probes, sel=faiss.IDSelectorNot(gone))
            return [part.search(queries, k, params=choice) for part in parts]
        near, lists = parts[0].quantizer.search(queries, probes)
        for part in parts:
            part.nprobe = probes
        return [part.search_preassigned(queries, k, lists, near) for part in parts]

    def brute(self, queries: np.ndarray, numbers: np.ndarray, vectors: np.ndarray, k: int) -> list[Numbered]:
        """The same from vectors in memory, all of them compared."""
        if not len(numbers):
            return []
        cosines, at = self.faiss.knn(queries, vectors, min(k, len(numbers)), self.faiss.METRIC_INNER_PRODUCT)
        return [(cosines, numbers[at])]


def merged(found: Sequence[Numbered], k: int) -> Numbered:
    """The ``k`` largest of several cosines and numbers [Q, n]."""
    cosines = np.concatenate([c for c, _ in found], axis=1)
    numbers = np.concatenate([n for _, n in found], axis=1)
    cosines = np.where(numbers < 0, -np.inf, cosines)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(numbers, order, axis=1)
