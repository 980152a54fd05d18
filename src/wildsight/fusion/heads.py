"""Decoder heads: classes per pixel, and saliency from a shared and a specific stream.

Paper: the segmentation head is SegFormer's (arXiv 2105.15203); the saliency head is that of the PWRF release
(adjacent-scale attention, two decoders run on the shared and on the specific maps, edges from depth).

Differences of the saliency head from the release:
    1. One width at every scale in place of 2048, 1024, 512 and 256.
    2. Any number of scales and of input sizes; the second decoder resizes to the scale at hand.
    3. A fusion that has no specific map is decoded once; without depth there is no edge output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildsight.fusion.fused import ConvNormReLU, Fused, Norm2d, nothing, scattered

Size = tuple[int, int]


class Decoded(NamedTuple):
    """What a head gives.

    Attributes:
        logits: [B, K, H, W]; K = 1 for saliency.
        sides: logits of the saliency head's streams, to be supervised too.
        edge: edge logits [B, 1, H, W], or None.
    """

    logits: Tensor
    sides: list[Tensor]
    edge: Tensor | None


def resized(x: Tensor, size: Sequence[int], align: bool = False) -> Tensor:
    """Bilinear, [B, C, *size]."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align)


class SegmentationHead(nn.Module):
    """A 1 x 1 convolution per scale, all scales at the finest one's size, a join, classes."""

    def __init__(self, maps: Sequence[int], width: int, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.each = nn.ModuleList(nn.Conv2d(n * width, width, 1) for n in maps)
        self.join = ConvNormReLU(width * len(maps), width, 1)
        self.drop, self.classes = nn.Dropout2d(dropout), nn.Conv2d(width, classes, 1)

    def forward(
        self,
        scales: Sequence[Fused],
        size: Size,
        _depth: Sequence[Tensor] | None = None,
        _here: Tensor | None = None,
    ) -> Decoded:
        """Scales from fine to coarse to logits [B, K, *size]."""
        finest = scales[0].shared.shape[-2:]
        parts = [
            resized(conv(torch.cat(f.maps, dim=1)), finest) for conv, f in zip(self.each, scales, strict=True)
        ]
        logits = self.classes(self.drop(self.join(torch.cat(parts, dim=1))))
        return Decoded(resized(logits, size), [], None)


class AdjacentAttention(nn.Module):
    """A coarser map joins a finer one: ``w = sigmoid(local(x + r) + global(x + r)); 2 x w + 2 r (1 - w)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 4)
        self.up = ConvNormReLU(width, width)
        self.local = nn.Sequential(
            nn.Conv2d(width, inner, 1), Norm2d(inner), nn.ReLU(), nn.Conv2d(inner, width, 1),
            Norm2d(width),
        )  # fmt: skip
        self.everywhere = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1)
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """[B, D, h, w] and [B, D, H, W] to [B, D, H, W]."""
        x = self.up(resized(coarse, fine.shape[-2:], align=True))
        both = x + fine
        w = (self.local(both) + self.everywhere(both)).sigmoid()
        return 2.0 * x * w + 2.0 * fine * (1.0 - w)


class Decoder(nn.Module):
    """From the coarsest map down to the finest, every step an `AdjacentAttention`."""

    def __init__(self, width: int, scales: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(AdjacentAttention(width) for _ in range(scales - 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps from coarse to fine; returns what each scale became, the same order."""
        out = [maps[0]]
        for step, fine in zip(self.steps, maps[1:], strict=True):
            out.append(step(out[-1], fine))
        return out


class EdgeHead(nn.Module):
    """Edges from the two finest feature maps of the depth modality."""

    def __init__(self, channels: Sequence[int], inner: int = 32) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, inner, 1), nn.ReLU(), nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU())
            for c in channels
        )
        both = inner * len(channels)
        self.block = nn.Sequential(
            nn.Conv2d(both, both, 3, padding=1), nn.ReLU(), nn.Conv2d(both, both, 3, padding=1)
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(both, inner, 1), nn.ReLU(), nn.Conv2d(inner, both, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.out = nn.Sequential(nn.Conv2d(both, 1, 3, padding=1), ConvNormReLU(1, inner))
        self.last = nn.Conv2d(inner, 1, 3, padding=1)

    def forward(self, depth: Sequence[Tensor], size: Size) -> Tensor:
        """Feature maps from fine to coarse to edge logits [B, 1, *size]."""
        finest = depth[0].shape[-2:]
        x = torch.cat([resized(f(d), finest) for f, d in zip(self.each, depth, strict=True)], dim=1)
        y = self.block(x)
        return self.last(resized(self.out(x + y * self.squeeze(y)), size, align=True))


class SaliencyHead(nn.Module):
    """Two decoders over the shared and the specific maps; the final map is the sum of their logits."""

    def __init__(self, maps: Sequence[int], width: int, depth_channels: Sequence[int]) -> None:
        super().__init__()
        scales = len(maps)
        self.first, self.second = Decoder(width, scales), Decoder(width, scales)
        self.back = nn.ModuleList(ConvNormReLU(width, width) for _ in range(scales - 1))
        self.shrink, self.last = ConvNormReLU(width, 32), nn.Conv2d(32, 1, 3, padding=1)
        self.edge = EdgeHead(depth_channels) if depth_channels else None

    def forward(
        self,
        scales: Sequence[Fused],
        size: Size,
        depth: Sequence[Tensor] | None = None,
        here: Tensor | None = None,
    ) -> Decoded:
        """Scales from fine to coarse to logits [B, 1, *size]; ``here`` [B] says which pictures have depth."""
        coarse_first = list(scales)[::-1]
        streams = [[f.shared for f in coarse_first]]
        if all(f.specific is not None for f in coarse_first[:1]):
            streams.append([f.shared if f.specific is None else f.specific for f in coarse_first])
        sides: list[Tensor] = []
        for stream in streams:
            once = self.first(stream)
            again = [
                o + conv(resized(once[-1], o.shape[-2:]))
                for conv, o in zip(self.back, once[:-1], strict=True)
            ]
            twice = self.second([*again, once[-1] + once[-1]])
            sides += [self._logits(twice[-1], size), self._logits(once[-1], size)]
        return Decoded(torch.stack(sides).sum(0), sides, self._edges(depth, here, size))

    def _edges(self, depth: Sequence[Tensor] | None, here: Tensor | None, size: Size) -> Tensor | None:
        """Edge logits [B, 1, *size]; zeros, with no gradient, for pictures without depth."""
        if self.edge is None or depth is None:
            return None
        count = len(depth[0])
        rows = torch.arange(count, device=depth[0].device) if here is None else here.nonzero()[:, 0]
        if not len(rows):
            return depth[0].new_zeros(count, 1, *size) + nothing(self.edge)
        return scattered(self.edge([d[rows] for d in depth[:2]], size), rows, count)

    def _logits(self, x: Tensor, size: Size) -> Tensor:
        out: Tensor = self.last(resized(self.shrink(x), size, align=True))
        return out
