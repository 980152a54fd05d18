"""Training augmentation on the square: mirror, and large-scale jitter with a random crop or padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from wildsight.segmentation.geometry import mirror

AUGMENTATIONS = ("none", "flip", "jitter")
SCALES = (0.1, 2.0)
GREY = 128.0


def jitter(pixels: Tensor, mask: Tensor, scale: float, corner: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Zoom by ``scale`` and come back to the square by a crop, or by padding with grey and no mask.

    Args:
        pixels: [3, S, S] uint8.
        mask: [S, S] uint8.
        scale: > 0.
        corner: where the crop begins or the picture is laid, each a share in [0, 1) of the room there is.
    """
    side = pixels.shape[-1]
    new = max(1, round(side * scale))
    zoomed = interpolate(pixels[None].float(), (new, new), mode="bilinear", antialias=True)[0]
    shape = interpolate(mask[None, None].float(), (new, new), mode="nearest-exact")[0, 0]
    room = abs(new - side)
    x, y = (int(c * (room + 1)) for c in corner)
    if new >= side:
        crop = (slice(y, y + side), slice(x, x + side))
        return zoomed[:, *crop].round().to(pixels.dtype), shape[crop].to(mask.dtype)
    padded = torch.full_like(pixels, int(GREY))
    padded[:, y : y + new, x : x + new] = zoomed.round().to(pixels.dtype)
    empty = torch.zeros_like(mask)
    empty[y : y + new, x : x + new] = shape.to(mask.dtype)
    return padded, empty


def augment(
    pixels: Tensor, masks: Tensor, how: str, generators: Sequence[Generator], widths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Augmented copies of a batch; a crop that would lose the mask is not made.

    Args:
        pixels: [B, 3, S, S] uint8.
        masks: [B, S, S] uint8.
        how: ``none``, ``flip`` (half of them) or ``jitter`` (flip, and scale 0.1 to 2).
        generators: one per sample.
        widths: of each picture inside its square, pixels.
    """
    if how == "none":
        return pixels, masks
    done = []
    for picture, mask, generator, width in zip(pixels, masks, generators, widths, strict=True):
        chance, zoom, x, y = torch.rand(4, generator=generator).tolist()
        pair = (mirror(picture, width), mirror(mask, width)) if chance < 0.5 else (picture, mask)
        if how == "jitter":
            scale = SCALES[0] + zoom * (SCALES[1] - SCALES[0])
            zoomed = jitter(*pair, scale, (x, y))
            pair = zoomed if bool(zoomed[1].any()) else pair
        done.append(pair)
    return torch.stack([p for p, _ in done]), torch.stack([m for _, m in done])
