"""SAM-Adapter: high-frequency and patch features enter every encoder block; the decoder is tuned.

Paper: SAM-Adapter (ICCV 2023 workshops, arXiv 2304.09148). Implemented: the picture's high-pass (a centred
square of its spectrum removed) and the patch embedding are projected to d / 32 channels and added; a small
network per block and a shared one back to d give what is added to the block's input; one decoder pass.

Differences: (1) the shared projection starts at zero, so training starts from stock SAM
(``zero_start=False`` draws it); (2) blocks of other widths and grids (Hiera) have a projection per width
and see the features resized; (3) the loss is the task's BCE + Dice on points, in place of BCE + IoU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wildsight.estimators.registry import Range, at_least, check_ranges
from wildsight.segmentation.adapter import Adapter, Hook, Stage
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.methods import METHODS, RECIPE, SegmentationMethod
from wildsight.segmentation.methods.decoder_tuning import trainable_decoder


@METHODS.register("sam-adapter")
@dataclass(frozen=True, kw_only=True)
class SAMAdapter(SegmentationMethod):
    """SAM-Adapter with its hyper-parameters."""

    title = "SAM-Adapter"
    recipe = replace(RECIPE, lr=2e-4)

    reduction: int = 32
    """d over the width of the small networks."""
    low_share: float = 0.25
    """Area of the spectrum that the high-pass removes, in (0, 1)."""
    zero_start: bool = True
    """True starts as stock SAM."""

    def __post_init__(self) -> None:
        between: Range = (lambda v: 0 < v < 1, "give a number in (0, 1), such as 0.25")
        check_ranges(self, reduction=at_least(1), low_share=between)

    def adapter(self, base: SamBase) -> FeatureAdapter:
        """Small networks for ``base``, and a decoder that learns."""
        return FeatureAdapter(self, base)


def high_pass(pixels: Tensor, low_share: float) -> Tensor:
    """What is left of [B, 3, S, S] without its low frequencies, as absolute values.

    The centred square whose area is ``low_share`` of the shifted spectrum is set to zero.
    """
    height, width = pixels.shape[-2:]
    half = int((height * width * low_share) ** 0.5 // 2)
    spectrum = torch.fft.fftshift(torch.fft.fft2(pixels, norm="forward"), dim=(-2, -1))
    rows = (torch.arange(height, device=pixels.device) - height // 2).abs()
    columns = (torch.arange(width, device=pixels.device) - width // 2).abs()
    low = (rows[:, None] < half) & (columns[None] < half)
    high = torch.fft.ifftshift(spectrum.masked_fill(low, 0), dim=(-2, -1))
    return torch.fft.ifft2(high, norm="forward").real.abs()


class FeatureAdapter(Adapter):
    """The small networks and the learning decoder."""

    trains_encoder = True

    def __init__(self, config: SAMAdapter, base: SamBase) -> None:
        super().__init__()
        self.config = config
        state = torch.random.get_rng_state()
        torch.manual_seed(config.seed)
        widths = [_width(layer) for layer in base.encoder_layers()]
        small = max(4, widths[0] // config.reduction)
        patch = base.image_size // base.grid[0]
        self.frequencies = nn.Conv2d(3, small, patch, patch)
        self.patches = nn.Linear(widths[0], small)
        self.own = nn.ModuleList(nn.Sequential(nn.Linear(small, small), nn.GELU()) for _ in widths)
        self.shared = nn.ModuleDict({str(w): nn.Linear(small, w) for w in sorted(set(widths))})
        if config.zero_start:
            for layer in self.shared.values():
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        torch.random.set_rng_state(state)
        self.decoder = trainable_decoder(base)

    def decoder_of(self, _base: SamBase, _stage: Stage) -> Any:
        """The copy that learns."""
        return self.decoder

    def encoder_hooks(self, base: SamBase, pixels: Tensor) -> list[Hook]:
        """Something is added to every block's input."""
        features: dict[str, Tensor] = {}

        def add(number: int) -> Any:
            def call(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
                tokens = inputs[0] if inputs else named["hidden_states"]
                if number == 0:
                    features["all"] = self._features(pixels, tokens)
                new = tokens + self._prompt(number, features["all"], tokens)
                return ((new, *inputs[1:]), named) if inputs else (inputs, named | {"hidden_states": new})

            return call

        return [Hook(layer, add(i), before=True) for i, layer in enumerate(base.encoder_layers())]

    def _features(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """[B, small, h, w] on the grid of the embedding."""
        frequencies = self.frequencies(high_pass(pixels.float(), self.config.low_share))
        patches = self.patches(tokens).permute(0, 3, 1, 2)
        return frequencies + _resized(patches, frequencies.shape[-2:])

    def _prompt(self, number: int, features: Tensor, tokens: Tensor) -> Tensor:
        here = _resized(features, tokens.shape[1:3]).permute(0, 2, 3, 1)
        return self.shared[str(tokens.shape[-1])](self.own[number](here))


def _width(layer: Any) -> int:
    return int(layer.layer_norm1.normalized_shape[0])


def _resized(maps: Tensor, size: Any) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
