"""Prompts from masks: tight boxes, points on the thing, noisy masks; and the mix that training draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator, Tensor
from torch.nn.functional import adaptive_avg_pool2d

from wildsight.errors import ConfigError
from wildsight.segmentation.adapter import Prompts

KINDS = ("box", "points", "noise_mask")
NOISY_LOGIT = 8.0


@dataclass(frozen=True)
class PromptMix:
    """What training prompts with.

    Attributes:
        box: share of tight boxes.
        points: share of random points on the thing.
        noise_mask: share of masks disturbed along their edge.
        count: points of a point prompt, >= 1; a mask with fewer pixels is prompted by its box.
    """

    box: float = 0.5
    points: float = 0.5
    noise_mask: float = 0.0
    count: int = 10

    def __post_init__(self) -> None:
        shares = (self.box, self.points, self.noise_mask)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ConfigError(f"a prompt mix of {shares}", hint="give shares of 0 or more, one above 0")
        if self.count < 1:
            raise ConfigError(f"{self.count} points", where="count", hint="give at least 1")

    def draw(self, chance: float) -> int:
        """The kind that ``chance`` in [0, 1) falls on: 0 box, 1 points, 2 noisy mask.

        >>> PromptMix().draw(0.2), PromptMix().draw(0.7)
        (0, 1)
        """
        edges = np.cumsum([self.box, self.points, self.noise_mask])
        return int(np.searchsorted(edges / edges[-1], chance, side="right"))


def tight_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2), the outer edges of the true pixels of [H, W].

    >>> tight_box(np.array([[False, False], [False, True]]))
    (1.0, 1.0, 2.0, 2.0)
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def points_on(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[count, 2] random (x, y) centres of true pixels of [H, W]; repeated when there are fewer."""
    rows, columns = np.nonzero(mask)
    chosen = rng.choice(len(rows), count, replace=len(rows) < count)
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64)


def components(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The 8-connected parts of [H, W], largest first."""
    marks, count = ndimage.label(mask, structure=np.ones((3, 3), int))
    parts = [marks == i for i in range(1, count + 1)]
    return sorted(parts, key=lambda part: -int(part.sum()))


def jittered(
    box: Sequence[float], share: float, size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box whose edges moved by up to ``share`` of its sides, kept in the (width, height) picture."""
    x1, y1, x2, y2 = box
    moves = rng.uniform(-share, share, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
    left, top, right, bottom = np.asarray(box) + moves
    left, top = np.clip(left, 0, size[0] - 1), np.clip(top, 0, size[1] - 1)
    return (
        float(left),
        float(top),
        float(np.clip(right, left + 1, size[0])),
        float(np.clip(bottom, top + 1, size[1])),
    )


def noisy_mask(mask: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """A mask [S, S] at ``size`` with its edge disturbed, as logits of +-8."""
    small = adaptive_avg_pool2d(mask[None, None].float(), size)[0, 0]
    rough = torch.randn(1, 1, max(1, size[0] // 8), max(1, size[1] // 8), generator=generator)
    wave = torch.nn.functional.interpolate(rough, size, mode="bilinear", align_corners=False)[0, 0]
    blurred = torch.nn.functional.avg_pool2d(small[None, None], 5, 1, 2)[0, 0]
    return torch.where(blurred + 0.15 * wave > 0.4, NOISY_LOGIT, -NOISY_LOGIT)


def training_prompts(
    masks: Tensor, mix: PromptMix, mask_size: tuple[int, int], generators: Sequence[Generator]
) -> Prompts:
    """One prompt per mask, drawn from the mix.

    Args:
        masks: [B, S, S] of 0 and 1 in the square, none empty.
        mix: shares.
        mask_size: (h, w) of a mask prompt.
        generators: one per mask.
    """
    kinds, boxes, points, noisy = [], [], [], []
    for mask, generator in zip(masks.cpu(), generators, strict=True):
        chance, seed = torch.rand((), generator=generator), torch.randint(2**31, (), generator=generator)
        array = mask.numpy() > 0
        kind = mix.draw(float(chance))
        if kind == 1 and array.sum() < mix.count:
            kind = 0
        kinds.append(kind)
        boxes.append(tight_box(array))
        points.append(points_on(array, mix.count, np.random.default_rng(int(seed))))
        if mix.noise_mask > 0:
            noisy.append(noisy_mask(mask, mask_size, generator))
    device = masks.device
    return Prompts(
        torch.tensor(kinds, device=device),
        torch.tensor(boxes, dtype=torch.float32, device=device),
        torch.tensor(np.stack(points), dtype=torch.float32, device=device),
        torch.stack(noisy).to(device) if noisy else None,
    )
