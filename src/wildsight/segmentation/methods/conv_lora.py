"""Conv-LoRA: a convolution, at a scale chosen per picture, inside the encoder's low-rank bottleneck.

Paper: Conv-LoRA (ICLR 2024, arXiv 2401.17868): ``W x + B sum_i G(A x)_i E_i(A x)``; expert i enlarges the
map i times, convolves it (3 x 3) and shrinks it back; the gate picks one. The decoder is tuned; one pass.

Differences: (1) the gate is a plain soft-max whose best expert is taken, weighted by its chance: no noise
and no balancing loss, no switch; (2) the loss is the task's BCE + Dice on points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wildsight.estimators.registry import at_least, check_ranges
from wildsight.segmentation.adapter import Adapter, Hook, Stage
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.lora import LowRank, build_pairs, encoder_sites, lora_hooks
from wildsight.segmentation.methods import METHODS, PROJECTIONS, RECIPE, SegmentationMethod
from wildsight.segmentation.methods.decoder_tuning import trainable_decoder


@METHODS.register("conv-lora")
@dataclass(frozen=True, kw_only=True)
class ConvLoRA(SegmentationMethod):
    """Conv-LoRA with its hyper-parameters."""

    title = "Conv-LoRA"
    recipe = replace(RECIPE, lr=2e-4)

    rank: int = 3
    """r of the bottleneck, >= 1."""
    alpha: float = 3.0
    """Scale is alpha / r."""
    experts: int = 8
    """Convolutions, at scales 1 to this, >= 1."""
    encoder_targets: tuple[str, ...] = ("q", "v")
    """Projections with a bottleneck."""

    def __post_init__(self) -> None:
        check_ranges(self, rank=at_least(1), experts=at_least(1), encoder_targets=PROJECTIONS)

    def adapter(self, base: SamBase) -> ConvLoRAAdapter:
        """Bottlenecks for ``base``, and a decoder that learns."""
        return ConvLoRAAdapter(self, base)


def scaled_convolution(maps: Tensor, conv: nn.Module, scale: int) -> Tensor:
    """Enlarge [B, r, h, w] ``scale`` times, convolve, and come back."""
    if scale == 1:
        return conv(maps)
    size = tuple(maps.shape[-2:])
    large = interpolate(maps, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return interpolate(conv(large), size, mode="bilinear", align_corners=False)


class ConvBottleneck(LowRank):
    """A low-rank pair with one expert of several between A and B."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float, experts: int) -> None:
        super().__init__(inputs, outputs, rank, scale)
        self.experts = nn.ModuleList(nn.Conv2d(rank, rank, 3, padding=1) for _ in range(experts))
        self.gate = nn.Linear(rank, experts)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, h, w, in] to the update [B, h, w, out]."""
        maps = (tokens @ self.lora_A.T).permute(0, 3, 1, 2)
        chances = self.gate(maps.mean((2, 3))).softmax(-1)
        weight, chosen = chances.max(-1)
        mixed = torch.zeros_like(maps)
        for number in chosen.unique().tolist():
            rows = torch.nonzero(chosen == number).flatten()
            convolved = scaled_convolution(maps[rows], self.experts[number], number + 1)
            mixed = mixed.index_copy(0, rows, (convolved * weight[rows, None, None, None]).to(mixed.dtype))
        return self.scale * (mixed.permute(0, 2, 3, 1) @ self.lora_B.T)


class ConvLoRAAdapter(Adapter):
    """The bottlenecks and the learning decoder."""

    trains_encoder = True

    def __init__(self, config: ConvLoRA, base: SamBase) -> None:
        super().__init__()
        self.config = config
        state = torch.random.get_rng_state()
        torch.manual_seed(config.seed)

        def make(inputs: int, outputs: int, rank: int, scale: float) -> ConvBottleneck:
            return ConvBottleneck(inputs, outputs, rank, scale, config.experts)

        sites = encoder_sites(base, config.encoder_targets)
        self.encoder = build_pairs(sites, config.rank, config.alpha / config.rank, make)
        torch.random.set_rng_state(state)
        self.decoder = trainable_decoder(base)

    def decoder_of(self, _base: SamBase, _stage: Stage) -> Any:
        """The copy that learns."""
        return self.decoder

    def encoder_hooks(self, base: SamBase, _pixels: Tensor) -> list[Hook]:
        """A bottleneck on every targeted projection."""
        return lora_hooks(encoder_sites(base, self.config.encoder_targets), self.encoder)
