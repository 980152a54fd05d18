"""The network: an encoder per modality (or one for all), a fusion per scale, a head.

As in the PWRF release, a CBR brings every modality of every scale to one width before it is fused; the finest
scale of PWRF and of cross-attention is concatenated.

Differences of PWRF in this network from the release (settings and hyper-parameters):
    1. ``A`` is the width, 64: the maps are narrow already. ``hyper={"A": 32}`` narrows them as published.
    2. None at the finest scale: it is concatenated as published; ``fine="routed sum"`` sums it with the
       shares of the next one, ``fine="same"`` routes it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wildsight.backbones import Backbone
from wildsight.errors import ConfigError
from wildsight.fusion.fused import ConvNormReLU, Fused, nothing, on_present, presence, scattered
from wildsight.fusion.heads import Decoded, SaliencyHead, SegmentationHead, Size, resized
from wildsight.fusion.methods import CONCATENATED, MOST, SAME, SUMMED, FusionMethod
from wildsight.fusion.methods.concatenation import Concatenation

FROZEN, EACH = "frozen", "each"


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the trainable network.

    Attributes:
        method: what fuses, with its hyper-parameters.
        modalities: their names, in order.
        channels: stride -> channels of the backbone's map.
        width: channels of the fused maps.
        classes: number of classes; 1 for saliency.
        saliency: which head.
        fine: what fuses the finest scale, from `methods.FINE`; None: what the method says.
    """

    method: FusionMethod
    modalities: tuple[str, ...]
    channels: Mapping[int, int]
    width: int
    classes: int
    saliency: bool = False
    fine: str | None = None


class Output(NamedTuple):
    """Head outputs, and the contribution of each modality at the finest routed scale [B, M, h, w] or None."""

    decoded: Decoded
    share: Tensor | None


class RoutedSum(nn.Module):
    """The finest scale of a routed fusion: modalities summed with the shares of the next coarser scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.after = ConvNormReLU(width, width)

    def forward(self, feats: Sequence[Tensor], present: Tensor | None, share: Tensor | None) -> Fused:
        """M maps [B, D, H, W] and shares [B, M, h, w] to [B, D, H, W]; equal shares where None."""
        here = presence(feats, present)
        if share is None:
            share = (here / here.sum(1, keepdim=True))[..., None, None]
        else:
            share = resized(share, feats[0].shape[-2:])
        weighted = [x * share[:, i : i + 1] for i, x in enumerate(feats)]
        return Fused(self.after(torch.stack(weighted).sum(0)), None, share)


class FusionNet(nn.Module):
    """Feature maps of M modalities at several strides to logits.

    Args:
        config: sizes.
        encoders: backbones that train along: one for all modalities, or one each; empty when the features
            come from a frozen one.
    """

    def __init__(self, config: NetConfig, encoders: Sequence[Backbone] = ()) -> None:
        super().__init__()
        if len(config.modalities) > MOST:
            raise ConfigError(f"{len(config.modalities)} modalities", hint=f"give {MOST} at most")
        self.config, self.strides = config, tuple(sorted(config.channels))
        self.encoders = nn.ModuleList(e.model for e in encoders)
        self._backbones = list(encoders)
        method, m = config.method, len(config.modalities)
        stages: list[nn.Module] = []
        projections: list[nn.Module] = []
        maps: list[int] = []
        for index, stride in enumerate(self.strides):
            fine = (config.fine or method.fine) if index == 0 and len(self.strides) > 1 else SAME
            width = config.width
            if fine == SUMMED:
                stages.append(RoutedSum(width))
            elif fine == CONCATENATED:
                stages.append(Concatenation().on(width, m, width).module())
            else:
                stages.append(method.on(width, m, width).module())
            maps.append(method.maps if fine == SAME else 1)
            c = config.channels[stride]
            projections.append(nn.ModuleList(ConvNormReLU(c, width) for _ in range(m)))
        self.stages, self.projections = nn.ModuleList(stages), nn.ModuleList(projections)
        self.depth = config.modalities.index("depth") if "depth" in config.modalities else None
        if config.saliency:
            depth = [config.channels[s] for s in self.strides[:2]] if self.depth is not None else []
            self.head: nn.Module = SaliencyHead(maps, config.width, depth)
        else:
            self.head = SegmentationHead(maps, config.width, config.classes)

    def encode(self, pixels: Tensor, here: Tensor) -> dict[int, Tensor]:
        """Normalised pixels [B, M, 3, H, W] through the trained encoders: stride -> [B, M, C, h, w].

        What ``here`` [B, M] calls missing is not seen by them, and gives zeros.
        """
        columns: list[dict[int, Tensor] | None] = []
        for i, shown in enumerate(here.T):
            rows = shown.nonzero()[:, 0]
            encoder = self._backbones[min(i, len(self._backbones) - 1)]
            maps = encoder.pyramid_with_grad(pixels[rows, i], self.strides) if len(rows) else None
            columns.append(maps and {s: scattered(x, rows, len(pixels)) for s, x in maps.items()})
        some = next(c for c in columns if c is not None)
        silent = sum((nothing(e) for e in self.encoders), pixels.new_zeros(()))
        zeros = {s: torch.zeros_like(x) + silent for s, x in some.items()}
        return {s: torch.stack([(c or zeros)[s] for c in columns], dim=1) for s in self.strides}

    def forward(self, features: Mapping[int, Tensor] | Tensor, present: Tensor | None, size: Size) -> Output:
        """Logits at ``size``.

        Args:
            features: stride -> [B, M, C, h, w], or pixels [B, M, 3, H, W] for the trained encoders.
            present: [B, M] bool, or None: all.
            size: (H, W) of the logits.
        """
        seen = features if isinstance(features, Tensor) else features[self.strides[0]]
        here = presence(seen.unbind(1), present)
        maps = self.encode(features, here) if isinstance(features, Tensor) else features
        fused: list[Fused] = []
        share: Tensor | None = None
        for index in reversed(range(len(self.strides))):
            stage, each = self.stages[index], maps[self.strides[index]].unbind(1)
            feats = [
                on_present(p, x, w, self.config.width)
                for p, x, w in zip(self.projections[index], each, here.T, strict=True)
            ]
            out = stage(feats, present, share) if isinstance(stage, RoutedSum) else stage(feats, present)
            share = share if out.share is None or isinstance(stage, RoutedSum) else out.share
            fused.insert(0, out)
        depth = None if self.depth is None else [maps[s][:, self.depth] for s in self.strides[:2]]
        return Output(self.head(fused, size, depth, None if depth is None else here[:, self.depth]), share)
