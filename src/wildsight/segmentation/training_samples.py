"""Training samples in the model's square, and one training step of any method on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from wildsight.backbones.cache import cached_embeddings
from wildsight.errors import DataError, WildSightError
from wildsight.images import load_image
from wildsight.segmentation.augment import augment
from wildsight.segmentation.base import Pictures, SamBase
from wildsight.segmentation.data import MaskSample, read_mask
from wildsight.segmentation.geometry import Frame, frame, mirror, place, place_mask, valid_tokens
from wildsight.segmentation.loss import mask_loss
from wildsight.segmentation.prompts import PromptMix, components, training_prompts
from wildsight.training import Batch
from wildsight.training.batches import mix

CACHED_BYTES = 1 << 30


@dataclass(frozen=True)
class TrainingSample:
    """One mask to learn: a sample, where its picture lies in the square, and which part of its mask."""

    sample: MaskSample
    where: Frame
    part: int | None = None


def usable(
    samples: Sequence[MaskSample], size: int, geometry: str, *, per_component: bool = False
) -> tuple[list[TrainingSample], list[WildSightError]]:
    """The samples whose picture and mask can be read and agree, and one error for each of the others."""
    found: list[TrainingSample] = []
    errors: list[WildSightError] = []
    for sample in samples:
        try:
            mask = checked_mask(sample)
        except WildSightError as error:
            errors.append(error)
            continue
        where = frame(mask.shape[1], mask.shape[0], size, geometry)
        numbers = range(len(components(mask))) if per_component else (None,)
        parts = [TrainingSample(sample, where, part) for part in numbers]
        found += [x for x in parts if place_mask(_part(mask, x.part), where).any()]
    return found, errors


def checked_mask(sample: MaskSample) -> NDArray[np.bool_]:
    """The mask of a sample whose picture can be read and has the mask's size.

    Raises:
        DataError, ImageError: it has not, or cannot.
    """
    width, height = load_image(sample.image).size
    mask = read_mask(sample)
    if mask.shape != (height, width):
        found = f"a mask of {mask.shape[1]} x {mask.shape[0]} for a picture of {width} x {height}"
        raise DataError(found, where=sample.masks[0], hint="give both one size")
    return mask


def _part(mask: NDArray[np.bool_], part: int | None) -> NDArray[np.bool_]:
    return mask if part is None else components(mask)[part]


class TrainingSet(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Training samples as tensors: the picture, or its cached embedding (plain and mirrored), and the mask.

    Items: ``mask`` [S, S] uint8, ``width`` and ``height`` inside the square, ``valid`` [N], and ``pixels``
    [3, S, S] uint8 or ``embedding`` and ``mirrored`` [D].
    """

    def __init__(
        self, base: SamBase, samples: Sequence[TrainingSample], embeddings: Sequence[np.ndarray] | None = None
    ) -> None:
        self.base, self.samples, self.embeddings = base, list(samples), embeddings
        self._items: dict[int, dict[str, Tensor]] = {}
        self._bytes_left = CACHED_BYTES

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index not in self._items:
            item = self._item(index)
            self._bytes_left -= sum(v.nbytes for v in item.values())
            if self._bytes_left < 0:
                return self._with_embedding(item, index)
            self._items[index] = item
        return self._with_embedding(self._items[index], index)

    def _item(self, index: int) -> dict[str, Tensor]:
        chosen = self.samples[index]
        mask = _part(read_mask(chosen.sample), chosen.part)
        item = {
            "mask": torch.from_numpy(place_mask(mask, chosen.where)),
            "width": torch.tensor(chosen.where.inner[0]),
            "height": torch.tensor(chosen.where.inner[1]),
            "valid": valid_tokens([chosen.where], self.base.grid)[0],
        }
        if self.embeddings is None:
            square = place(load_image(chosen.sample.image), chosen.where)
            item["pixels"] = torch.from_numpy(square).permute(2, 0, 1).contiguous()
        return item

    def _with_embedding(self, item: dict[str, Tensor], index: int) -> dict[str, Tensor]:
        if self.embeddings is None:
            return item
        plain, mirrored = (torch.from_numpy(np.array(rows[index])) for rows in self.embeddings)
        return {**item, "embedding": plain, "mirrored": mirrored}


def frozen_embeddings(
    base: SamBase,
    files: Sequence[Path],
    geometry: str,
    *,
    mirrored: bool = True,
    progress: Callable[[int], Any] | None = None,
) -> list[np.ndarray]:
    """The stock encoder's embeddings of files through the cache on disk, plain and mirrored: [N, D] each.

    Without ``mirrored`` the second is the first.

    Raises:
        DataError, ImageError: a picture cannot be read, or the cache cannot be written.
    """
    found = []
    for flip in (False, True) if mirrored else (False,):
        pictures = Pictures(base, geometry, flip=flip)
        cached = cached_embeddings(
            pictures,
            files,
            base.image_size,
            lambda pixels: base.encode(pixels).flat(),
            {"embedding": "sam", "geometry": geometry, "flip": flip},
            batch=4,
            progress=progress,
        )
        if cached.errors:
            raise cached.errors[0]
        found.append(cached.array)
    return [found[0], found[-1]]


@dataclass(frozen=True)
class TrainingStep:
    """One step: augment, prompt, decode, and the loss of each pass.

    Attributes:
        base: the frozen model.
        mix: what to prompt with.
        how: augmentation: ``none``, ``flip`` or ``jitter``; cached embeddings know the first two.
        points: points per mask in the loss.
        passes: of the method.
    """

    base: SamBase
    mix: PromptMix
    how: str
    points: int
    passes: int

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Logged scalars with ``loss``."""
        generators = [Generator().manual_seed(mix(batch.seed, batch.epoch, int(i), 31)) for i in batch.index]
        source, masks = self._source(batch.data, generators)
        valid = None if self.how == "jitter" and "pixels" in batch.data else batch.data["valid"]
        prompts = training_prompts(masks, self.mix, self.base.mask_size, generators)
        guess = model(source, prompts, valid)
        draft = mask_loss(guess.draft[:, 0], masks, generators, self.points)
        if self.passes == 1:
            return {"loss": draft}
        final = mask_loss(guess.final[:, 0], masks, generators, self.points)
        return {"loss": final + draft, "final_loss": final, "draft_loss": draft}

    def _source(self, data: dict[str, Tensor], generators: list[Generator]) -> tuple[Any, Tensor]:
        """Pixels or embedding of the augmented batch, and its masks."""
        widths, heights = data["width"].tolist(), data["height"].tolist()
        if "pixels" in data:
            pixels, masks = augment(data["pixels"], data["mask"], self.how, generators, widths)
            inner = None if self.how == "jitter" else list(zip(widths, heights, strict=True))
            return self.base.normalise(pixels, inner), masks
        turn = [self.how != "none" and float(torch.rand((), generator=g)) < 0.5 for g in generators]
        chosen = torch.tensor(turn, device=data["mask"].device)
        rows = torch.where(chosen[:, None], data["mirrored"], data["embedding"])
        pairs = zip(data["mask"], widths, turn, strict=True)
        masks = torch.stack([mirror(m, w) if t else m for m, w, t in pairs])
        return self.base.unflatten(rows), masks


__all__ = ["TrainingSample", "TrainingSet", "TrainingStep", "checked_mask", "frozen_embeddings", "usable"]
