"""From what a user gives for one scene to the task's sample, with every misfit named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL.Image import Image

from wildsight.datasets.multimodal import Band, FusionSample, Indexed, Picture
from wildsight.errors import DataError, ImageError
from wildsight.fusion.data import file_of, read_values, same_size, three
from wildsight.images import bit_depth, declared_scale, load_values

Shown = str | Path | Image | np.ndarray | bytes
Scene = Mapping[str, Shown]


def sample_of(
    number: int,
    scene: Mapping[str, Shown],
    modalities: Sequence[str],
    bits: Mapping[str, int],
    loose: Collection[str] = (),
    opaque: Collection[str] = (),
    scales: Mapping[str, float] = {},
) -> FusionSample:
    """A scene's sample.

    Args:
        number: its place in the list, for messages.
        scene: modality -> file, PIL picture, array or encoded bytes.
        modalities: those that the model knows.
        bits: modality -> bits per channel that the model was trained on.
        loose: modalities whose pictures may have another size.
        opaque: modalities of whose files only the first three channels are read, as in training.
        scales: modality -> stored value that stands for 1, where it has more than 8 bits.

    Raises:
        DataError: an unknown modality, none at all, another bit depth, or arrays of different sizes.
    """
    known = ", ".join(modalities)
    if unknown := [n for n in scene if n not in modalities]:
        where = file_name(scene[unknown[0]]) or f"scene {number}"
        hint = f"it knows {known}"
        raise DataError(f"modality {unknown[0]!r} is unknown to the model", where=where, hint=hint)
    if not scene:
        hint = f"give at least one of {known}"
        raise DataError("all modalities are missing", where=f"scene {number}", hint=hint)
    pictures = {
        name: picture_of(shown, name, bits.get(name, 8), scales.get(name), name in opaque)
        for name, shown in scene.items()
    }
    sizes = {n: p.shape[:2] for n, p in pictures.items() if isinstance(p, np.ndarray) and n not in loose}
    if len(set(sizes.values())) > 1:
        what = " and ".join(f"{n} {s[1]} x {s[0]}" for n, s in sizes.items())
        raise DataError(f"sizes differ: {what}", where=f"scene {number}", hint="register them to one grid")
    first = next((f for p in pictures.values() if (f := file_of(p)) is not None), None)
    return FusionSample(first.stem if first else f"scene {number}", pictures, None, "test")


def decoded(sample: FusionSample, found: Indexed) -> FusionSample:
    """A sample whose pictures are values in place of files, so that nothing reads them again.

    Raises:
        DataError: files of different sizes, or a deep picture in no stated unit.
        ImageError: an unreadable file.
    """
    same_size(sample, found)
    values = {n: read_values(p, n, found.scales.get(n)) for n, p in sample.pictures.items()}
    return replace(sample, pictures=values)


def file_name(shown: Shown) -> str | None:
    """The file's name, if a file was given."""
    return str(shown) if isinstance(shown, str | Path) else None


def picture_of(
    shown: Shown, name: str, bits: int, full_scale: float | None = None, opaque: bool = False
) -> Picture:
    """A file as it is, anything else as [H, W, 3] float32 in [0, 1]: the pixels that its file would give.

    Raises:
        DataError: bits, shape or range that do not fit.
        ImageError: no picture, or one that holds NaN.
    """
    if not isinstance(shown, np.ndarray):
        return _encoded(shown, name, bits, full_scale, opaque)
    values = shown
    if np.issubdtype(values.dtype, np.integer) and values.dtype != np.uint8 and bits > 8:
        full_scale = full_scale or declared_scale()
        values = np.clip(values / full_scale, 0.0, 1.0) if full_scale else values
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or not values.size or values.shape[-1] not in (1, 2, 3):
        hint = "give [H, W] or [H, W, 1 to 3]"
        raise DataError(f"{name} of shape {values.shape} is no picture", where=name, hint=hint)
    if values.dtype == np.uint8:
        values = values / np.float32(255)
    if not np.issubdtype(values.dtype, np.floating):
        raise DataError(f"{name} of {values.dtype} has no stated range", where=name, hint="scale it to 0-1")
    if not np.isfinite(values).all():
        raise ImageError(f"{name} holds NaN or infinity", where=name, hint="clean the array")
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"{name} leaves the range 0 to 1", where=name, hint="scale it to 0-1")
    return three(values)


def _encoded(
    shown: str | Path | Image | bytes, name: str, bits: int, full_scale: float | None, opaque: bool
) -> Picture:
    """A file, or the values of encoded bytes or of a PIL picture; its bits are those of the training."""
    path = Path(shown) if isinstance(shown, str | Path) else None
    found = max(8, bit_depth(shown))
    if found != bits:
        hint = f"save it with {bits} bits, or train on {found}"
        what = f"{name} has {found} bits, the model was trained on {bits}"
        raise DataError(what, where=path or name, hint=hint)
    if path is not None:
        return Band(path, 0, 3) if opaque else path
    if opaque:
        return load_values(shown, channels=slice(0, 3))
    return load_values(shown, full_scale=full_scale)


def depths(samples: Sequence[FusionSample], modalities: Sequence[str]) -> dict[str, int]:
    """Bits per channel of each modality, 8 for arrays.

    Raises:
        DataError: files of 8 and of 16 bits in one modality.
    """
    found: dict[str, int] = {}
    for sample in samples:
        for name in modalities:
            file = file_of(sample.pictures.get(name))
            if file is None or not file.is_file():
                continue
            bits = max(8, bit_depth(file))
            if found.setdefault(name, bits) != bits:
                what = f"{name} has {bits} bits, the others {found[name]}"
                raise DataError(what, where=file, hint="save all of them with one bit depth")
    return {name: found.get(name, 8) for name in modalities}


def opaque_of(samples: Sequence[FusionSample]) -> frozenset[str]:
    """Modalities of whose files only the first three channels are read."""
    kinds = ((n, p) for s in samples for n, p in s.pictures.items() if isinstance(p, Band))
    return frozenset(n for n, p in kinds if (p.start, p.stop) == (0, 3))
