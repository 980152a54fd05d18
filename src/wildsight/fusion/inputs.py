"""From a scene's pictures to tensors of the network: values, presence, frozen features, training samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wildsight.backbones import Backbone
from wildsight.datasets.multimodal import Band, Indexed, Picture
from wildsight.fusion.data import FusionSample, read_mask, read_values, same_size
from wildsight.images import declared_scale
from wildsight.keep import n_keep

MEMORY = 1 << 30
"""Most bytes of frozen features held in memory; above it they are computed again each time."""


class Store:
    """Frozen features of pictures already seen, as half precision, up to `MEMORY` bytes.

    A picture is known by its file, size and time, or by being the same array; its features also by the
    backbone's hash and by how the picture was read.
    """

    def __init__(self, limit: int = MEMORY) -> None:
        self.limit, self.used = limit, 0
        self.kept: dict[Any, tuple[Any, dict[int, Tensor]]] = {}

    def get(self, key: Any) -> dict[int, Tensor] | None:
        """The maps kept under a key, in single precision."""
        found = self.kept.get(key)
        return None if found is None else {s: m.float() for s, m in found[1].items()}

    def put(self, key: Any, source: Any, maps: Mapping[int, Tensor]) -> None:
        """Keep maps while there is room; ``source`` is kept alive, so that its identity stays its own."""
        size = sum(2 * m.numel() for m in maps.values())
        if self.used + size <= self.limit:
            self.kept[key] = (source, {s: m.half() for s, m in maps.items()})
            self.used += size


def identity(picture: Picture) -> tuple[Any, ...]:
    """What tells one picture from another without reading it."""
    if isinstance(picture, np.ndarray):
        return ("array", id(picture))
    path, start = (picture.path, picture.start) if isinstance(picture, Band) else (picture, 0)
    status = path.stat()
    return (str(path), start, status.st_size, status.st_mtime_ns)


def stretched(values: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] with its 2nd percentile at 0 and its 98th at 1; as it is where they are equal."""
    low, high = np.percentile(values, (2.0, 98.0))
    if high <= low:
        return values
    return np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Reader:
    """How scenes become tensors.

    Attributes:
        backbone: its normalisation, and its features where they are frozen.
        modalities: order of the modalities.
        size: (H, W) that pictures are stretched to.
        strides: taps of the backbone.
        frozen: features of the frozen backbone (True) or normalised pixels (False).
        stretch: modalities whose pictures are `stretched`.
        store: features already computed.
    """

    backbone: Backbone
    modalities: tuple[str, ...]
    size: tuple[int, int]
    strides: tuple[int, ...]
    frozen: bool
    stretch: frozenset[str] = frozenset()
    store: Store = field(default_factory=Store)

    def row(self, sample: FusionSample, found: Indexed) -> dict[str, Any]:
        """One scene: ``x`` (stride -> [M, C, h, w], or pixels [M, 3, H, W]) and ``present`` [M] bool.

        A missing modality is zeros.

        Raises:
            DataError: files of different sizes, or a deep picture in no stated unit.
            ImageError: an unreadable file.
        """
        same_size(sample, found)
        present = torch.tensor([name in sample.pictures for name in self.modalities])
        if not self.frozen:
            pixels = torch.zeros(len(self.modalities), 3, *self.size)
            for i, name in enumerate(self.modalities):
                if name in sample.pictures:
                    pixels[i] = self._pixels(sample.pictures[name], name, found)
            return {"x": pixels, "present": present}
        return {"x": self.features(sample, found), "present": present}

    def features(self, sample: FusionSample, found: Indexed, mirrored: bool = False) -> dict[int, Tensor]:
        """Frozen features of a scene, or of its mirrored pictures: stride -> [M, C, h, w], zeros if missing.

        Features of a mirrored picture are not the mirrored features: a network's filters have sides.
        """
        named = [(n, sample.pictures[n]) for n in self.modalities if n in sample.pictures]
        there = {n: self._features(p, n, found, mirrored) for n, p in named}
        shape = next(iter(there.values()))
        zeros = {s: torch.zeros_like(m) for s, m in shape.items()}
        return {s: torch.stack([there.get(n, zeros)[s] for n in self.modalities]) for s in self.strides}

    def _pixels(self, picture: Picture, name: str, found: Indexed) -> Tensor:
        values = read_values(picture, name, found.scales.get(name))
        x = torch.tensor(stretched(values) if name in self.stretch else values).permute(2, 0, 1)[None]
        if tuple(x.shape[-2:]) != self.size:
            x = torch.nn.functional.interpolate(
                x, size=self.size, mode="bilinear", align_corners=False, antialias=True
            )
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.backbone.mean, self.backbone.std))
        return (x[0] - mean) / std

    def _features(
        self, picture: Picture, name: str, found: Indexed, mirrored: bool = False
    ) -> dict[int, Tensor]:
        scale = found.scales.get(name, declared_scale())
        how = (self.backbone.sha, self.size, self.strides, scale, name in self.stretch)
        key = (*how, mirrored, identity(picture))
        maps = self.store.get(key)
        if maps is None:
            pixels = self._pixels(picture, name, found)[None].to(self.backbone.device)
            pixels = pixels.flip(-1) if mirrored else pixels
            maps = {
                s: m[0].cpu().half().float() for s, m in self.backbone.pyramid(pixels, self.strides).items()
            }
            self.store.put(key, picture, maps)  # halved whether kept or not: the same bits both ways
        return maps


class Scenes(Dataset[dict[str, Any]]):
    """Samples for training: the reader's row, ``mask`` [H, W] at its size, and ``mirrored``.

    The latter is ``x`` of the mirrored pictures, where features are frozen: twice the features to keep.

    Args:
        samples: the scenes.
        found: their set's classes, units and rules.
        reader: how they are read.
    """

    def __init__(self, samples: Sequence[FusionSample], found: Indexed, reader: Reader) -> None:
        self.samples, self.found, self.reader = list(samples), found, reader
        self.masks: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        if index not in self.masks:
            mask = nearest(read_mask(sample, self.found), self.reader.size)
            self.masks[index] = torch.from_numpy(mask.astype(np.uint8))  # ids, and 255 where nothing counts
        row = {**self.reader.row(sample, self.found), "mask": self.masks[index].long()}
        if self.reader.frozen:
            row["mirrored"] = self.reader.features(sample, self.found, mirrored=True)
        return row


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size, each cell taking the value under its centre."""
    old = zip(mask.shape, size, strict=True)
    rows, columns = (((np.arange(n) + 0.5) * o / n).astype(np.intp) for o, n in old)
    return np.ascontiguousarray(mask[rows[:, None], columns])


def flipped(data: Mapping[str, Any], which: Tensor) -> tuple[Any, Tensor]:
    """``x`` and ``mask`` of a batch of `Scenes`, the chosen pictures ([B] bool) mirrored left to right."""

    def chosen(mirrored: Tensor, plain: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (plain.dim() - 1)), mirrored, plain)

    x, mask = data["x"], data["mask"]
    if isinstance(x, Tensor):
        return chosen(x.flip(-1), x), chosen(mask.flip(-1), mask)
    return {s: chosen(data["mirrored"][s], t) for s, t in x.items()}, chosen(mask.flip(-1), mask)


def held_out(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to learn from, and those held out to choose between modalities."""
    kept = n_keep(count, 1.0 - share)
    order = np.random.default_rng(seed).permutation(count).tolist()
    return sorted(order[:kept]), sorted(order[kept:])
