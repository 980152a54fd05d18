"""Frozen features, computed once: a memory-mapped array on disk, keyed by weights, settings and files.

An interrupted pass goes on where it stopped; a picture that cannot be read is listed, not fatal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones.backbone import Backbone
from wildsight.errors import DataError, ImageError, WildSightError
from wildsight.files import cache_folder, digest_of, explained, read_json, write_json
from wildsight.images import load_image

DONE, BAD = 1, 2


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a list of files.

    Attributes:
        array: [N, C, H, W] float32, memory-mapped; rows of unreadable files are zero.
        ok: [N] bool, False for unreadable files.
        errors: one per unreadable file, in order.
    """

    array: np.ndarray
    ok: np.ndarray
    errors: list[WildSightError]


def cached_features(
    backbone: Backbone,
    files: Sequence[Path],
    size: int,
    strides: Sequence[int],
    assemble: Callable[[dict[int, Tensor]], Tensor],
    extra: Mapping[str, Any],
    *,
    batch: int = 16,
    progress: Callable[[int], Any] | None = None,
) -> CachedFeatures:
    """Features of ``files`` through the cache.

    Args:
        backbone: frozen network.
        files: pictures; each is decoded once.
        size: side of the square that they are stretched to, pixels.
        strides: taps of the backbone.
        assemble: pyramid of one batch -> [B, C, H, W].
        extra: settings of ``assemble``, part of the key.
        batch: pictures per forward pass.
        progress: called with the number of pictures just done.

    Raises:
        DataError: no files, or the cache folder is full or cannot be written.
    """
    if not files:
        raise DataError("no pictures", mend="check the source")
    key = digest_of([backbone.sha, size, list(strides), dict(extra), [_stamp(f) for f in files]])
    store = _Store(cache_folder("features") / key[:24], len(files))
    todo = np.flatnonzero(store.flags == 0)
    with ThreadPoolExecutor(2) as pool:
        chunks = [todo[i : i + batch] for i in range(0, len(todo), batch)]
        ahead = [pool.map(_try_load, [files[i] for i in chunk]) for chunk in chunks[:2]]
        for number, chunk in enumerate(chunks):
            loaded = list(ahead.pop(0))
            if number + 2 < len(chunks):
                ahead.append(pool.map(_try_load, [files[i] for i in chunks[number + 2]]))
            good = [(i, p) for i, p in zip(chunk, loaded, strict=True) if isinstance(p, Image)]
            if good:
                pixels = backbone.preprocess([p for _, p in good], size)
                values = assemble(backbone.pyramid(pixels, strides)).numpy()
                store.put([int(i) for i, _ in good], values)
            store.bad([int(i) for i, p in zip(chunk, loaded, strict=True) if not isinstance(p, Image)])
            if progress:
                progress(len(chunk))
    return store.finish(files)


def _stamp(file: Path) -> list[Any]:
    """What identifies a file's content without reading it."""
    try:
        status = file.stat()
    except OSError:
        return [str(file), None, None]
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


def _try_load(file: Path) -> Image | WildSightError:
    try:
        return load_image(file)
    except WildSightError as error:
        return error


class _Store:
    """The array and one flag per file, both memory-mapped; flags are set after the rows are on disk."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / "flags.npy"
            if not file.is_file() or file.stat().st_size < count:
                np.save(file, np.zeros(count, np.uint8))
            self.flags: np.ndarray = np.lib.format.open_memmap(file, mode="r+")
        self.array: np.ndarray | None = self._open() if (folder / "shape.json").is_file() else None

    def _open(self) -> np.ndarray:
        shape = tuple(read_json(self.folder / "shape.json"))
        return np.memmap(self.folder / "features.f32", np.float32, "r+", shape=shape)

    def _create(self, shape: tuple[int, ...]) -> np.ndarray:
        with explained(self.folder), (self.folder / "features.f32").open("wb") as stream:
            zeros = bytes(1 << 20)
            left = int(np.prod(shape)) * 4
            while left > 0:
                left -= stream.write(zeros[: min(left, len(zeros))])
        write_json(self.folder / "shape.json", list(shape))
        return self._open()

    def put(self, rows: list[int], values: np.ndarray) -> None:
        if self.array is None:
            self.array = self._create((self.count, *values.shape[1:]))
        with explained(self.folder):
            self.array[rows] = values
            if isinstance(self.array, np.memmap):
                self.array.flush()
        self._flag(rows, DONE)

    def bad(self, rows: list[int]) -> None:
        self._flag(rows, BAD)

    def _flag(self, rows: list[int], value: int) -> None:
        if rows:
            self.flags[rows] = value
            if isinstance(self.flags, np.memmap):
                self.flags.flush()

    def finish(self, files: Sequence[Path]) -> CachedFeatures:
        ok = np.asarray(self.flags == DONE)
        errors = [
            e
            for e in (_try_load(files[int(i)]) for i in np.flatnonzero(~ok))
            if isinstance(e, WildSightError)
        ]
        if self.array is None:
            raise errors[0] if errors else ImageError("no picture could be read", where=files[0])
        return CachedFeatures(self.array, ok, errors)
