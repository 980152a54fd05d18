"""Frozen features, computed once: a memory-mapped array on disk, keyed by weights, settings and files.

An interrupted pass goes on where it stopped; a picture that cannot be read is listed, not fatal; two
processes may fill the same cache at once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones.backbone import Backbone
from wildsight.errors import DataError, WildSightError
from wildsight.files import cache_folder, digest_of, explained
from wildsight.images import carried, declared_scale, load_image

FORMAT = 2
"""Layout of a cache folder; part of the key."""


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a list of files.

    Attributes:
        array: [N, C, H, W], or [N, D] for one vector per file, memory-mapped; zero where unreadable.
        ok: [N] bool, False for unreadable files.
        errors: one per unreadable file, in order.
    """

    array: np.ndarray
    ok: np.ndarray
    errors: list[WildSightError]


def cached_features(
    backbone: Backbone,
    files: Sequence[Path],
    size: int | tuple[int, int],
    strides: Sequence[int],
    assemble: Callable[[dict[int, Tensor]], Tensor],
    key_extra: Mapping[str, Any],
    *,
    batch: int = 16,
    dtype: Literal["float32", "float16"] = "float32",
    progress: Callable[[int], Any] | None = None,
) -> CachedFeatures:
    """Features of ``files`` through the cache.

    Args:
        backbone: frozen network.
        files: pictures; each is decoded once.
        size: side of the square, or (H, W), that they are stretched to, pixels.
        strides: taps of the backbone.
        assemble: pyramid of one batch -> [B, C, H, W].
        key_extra: settings of ``assemble``, part of the key.
        batch: pictures per forward pass.
        dtype: as stored.
        progress: called with the number of pictures just done.

    Raises:
        DataError: no files, or the cache folder is full or cannot be written.
        ImageError: not one of the files can be read.
    """
    settings = [FORMAT, dtype, size, list(strides), dict(key_extra)]

    def compute(pixels: Tensor) -> Tensor:
        return assemble(backbone.pyramid(pixels, strides))

    return _through_store(backbone, files, size, compute, settings, batch, dtype, progress)


def cached_embeddings(
    backbone: Backbone,
    files: Sequence[Path],
    size: int | tuple[int, int],
    embed: Callable[[Tensor], Tensor],
    key_extra: Mapping[str, Any],
    *,
    batch: int = 16,
    dtype: Literal["float32", "float16"] = "float32",
    progress: Callable[[int], Any] | None = None,
    prepare: Callable[[Image], Image] | None = None,
) -> CachedFeatures:
    """One vector per file through the cache, in place of the maps of `cached_features`.

    Args:
        backbone: frozen network.
        files: pictures; each is decoded once.
        size: side of the square, or (H, W), that they are stretched to, pixels.
        embed: pixels [B, 3, H, W] -> [B, ...], such as ``backbone.embed_images``.
        key_extra: settings of ``embed`` (its name at least), part of the key.
        batch: pictures per forward pass.
        dtype: as stored.
        progress: called with the number of pictures just done.
        prepare: changes each decoded picture first; name it in ``key_extra``.

    Returns:
        Features whose array is [N, ...].

    Raises:
        DataError: no files, or the cache folder is full or cannot be written.
        ImageError: not one of the files can be read.
    """
    settings = [FORMAT, dtype, size, "embedding", dict(key_extra)]
    return _through_store(backbone, files, size, embed, settings, batch, dtype, progress, prepare)


def _through_store(
    backbone: Backbone,
    files: Sequence[Path],
    size: int | tuple[int, int],
    compute: Callable[[Tensor], Tensor],
    settings: list[Any],
    batch: int,
    dtype: str,
    progress: Callable[[int], Any] | None,
    prepare: Callable[[Image], Image] | None = None,
) -> CachedFeatures:
    """Rows of ``compute`` for every file, those already stored left as they are."""
    if not files:
        raise DataError("no pictures", hint="check the source")
    weights = [backbone.sha, list(backbone.mean), list(backbone.std)]
    if backbone.dtype != torch.float32:
        weights.append(str(backbone.dtype))
    scale = declared_scale()
    key = digest_of([weights, settings, [_stamp(f) for f in files], *([scale] if scale else [])])
    store = _Store(cache_folder("features") / key[:24], len(files), np.dtype(dtype))
    errors: list[WildSightError] = []
    for rows, loaded in _decoded(files, store.todo(), batch, prepare):
        good = [(row, p) for row, p in zip(rows, loaded, strict=True) if isinstance(p, Image)]
        errors += [p for p in loaded if isinstance(p, WildSightError)]
        if good:
            values = compute(backbone.preprocess([p for _, p in good], size))
            store.put([row for row, _ in good], values.cpu().numpy())
        if progress:
            progress(len(rows))
    if store.array is None:
        raise errors[0]
    return CachedFeatures(store.array, store.done(), errors)


def _decoded(
    files: Sequence[Path],
    rows: Sequence[int],
    batch: int,
    prepare: Callable[[Image], Image] | None = None,
) -> Iterator[tuple[list[int], list[Image | WildSightError]]]:
    """Batches of (rows, pictures or faults), decoded by threads two batches ahead."""
    chunks = [list(rows[i : i + batch]) for i in range(0, len(rows), batch)]
    with ThreadPoolExecutor(2) as pool:
        load = carried(partial(_try_load, prepare=prepare))
        ahead = [pool.map(load, [files[i] for i in chunk]) for chunk in chunks[:2]]
        for number, chunk in enumerate(chunks):
            loaded = list(ahead.pop(0))
            if number + 2 < len(chunks):
                ahead.append(pool.map(load, [files[i] for i in chunks[number + 2]]))
            yield chunk, loaded


def _stamp(file: Path) -> list[Any]:
    """What identifies a file's content without reading it."""
    try:
        status = file.stat()
    except OSError:
        return [str(file), None, None]
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


def _try_load(file: Path, prepare: Callable[[Image], Image] | None = None) -> Image | WildSightError:
    try:
        picture = load_image(file)
        return picture if prepare is None else prepare(picture)
    except WildSightError as error:
        return error.at(file)


class _Store:
    """The array and one flag per row, both memory-mapped.

    The folder appears whole, by a rename that only one process can win, and no file in it is ever
    truncated: another process may have it mapped. A flag is set after its row is on disk.
    """

    def __init__(self, folder: Path, count: int, dtype: np.dtype[Any]) -> None:
        self.folder, self.count, self.dtype = folder, count, dtype
        self.array: np.ndarray | None = None
        self.flags: np.ndarray = np.zeros(count, np.uint8)
        if folder.is_dir():
            self._open()

    def todo(self) -> list[int]:
        """Rows without features."""
        return [int(i) for i in np.flatnonzero(self.flags == 0)]

    def done(self) -> np.ndarray:
        """[N] bool: rows with features."""
        return np.asarray(self.flags) != 0

    def put(self, rows: list[int], values: np.ndarray) -> None:
        """Store ``values`` [len(rows), ...], then flag the rows."""
        if self.array is None:
            self._create((self.count, *values.shape[1:]))
        if self.array is None:
            raise DataError("the cache cannot be opened", where=self.folder, hint="remove it")
        with explained(self.folder):
            self.array[rows] = values
            _flush(self.array)
            self.flags[rows] = 1
            _flush(self.flags)

    def _create(self, shape: tuple[int, ...]) -> None:
        """Make the folder, every byte of it written now: a full disk shows here, not in the map."""
        with explained(self.folder):
            temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
            try:
                _write_zeros(temporary / "features.npy", shape, self.dtype)
                _write_zeros(temporary / "flags.npy", (self.count,), np.dtype(np.uint8))
                _rename_if_absent(temporary, self.folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        self._open()

    def _open(self) -> None:
        try:
            self.array = np.lib.format.open_memmap(self.folder / "features.npy", mode="r+")
            self.flags = np.lib.format.open_memmap(self.folder / "flags.npy", mode="r+")
        except (OSError, ValueError) as error:
            raise DataError(
                f"the feature cache is damaged ({error})", where=self.folder, hint="remove this folder"
            ) from error


def _write_zeros(file: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A ``.npy`` file of zeros, written a megabyte at a time."""
    left = int(np.prod(shape)) * dtype.itemsize
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    zeros = bytes(1 << 20)
    with file.open("wb") as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        while left > 0:
            left -= stream.write(zeros[: min(left, len(zeros))])


def _rename_if_absent(source: Path, target: Path) -> None:
    """Rename a folder, unless another process has put its own there first."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _flush(array: np.ndarray) -> None:
    if isinstance(array, np.memmap):
        array.flush()
