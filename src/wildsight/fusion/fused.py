"""What every fusion gives, whatever its method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildsight.errors import ConfigError


@dataclass(frozen=True)
class Fused:
    """One scale after fusion.

    Attributes:
        shared: [B, D, H, W].
        specific: [B, D, H, W] where the method tells shared from specific, else None.
        share: [B, M, H, W], how much each modality contributed where; sums to 1 over M; None if unknown.
    """

    shared: Tensor
    specific: Tensor | None = None
    share: Tensor | None = None

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """The maps there are."""
        return (self.shared,) if self.specific is None else (self.shared, self.specific)


def presence(feats: Sequence[Tensor], present: Tensor | None) -> Tensor:
    """``present`` as [B, M] floats, all ones where it is None.

    Raises:
        ConfigError: feature maps of different shapes, or a picture without any modality.
    """
    shapes = {tuple(f.shape[-2:]) for f in feats}
    if len(shapes) != 1:
        raise ConfigError(f"feature maps of sizes {sorted(shapes)}", hint="give all modalities one size")
    if present is None:
        return feats[0].new_ones(len(feats[0]), len(feats))
    if not bool(present.any(dim=1).all()):
        raise ConfigError("a picture has no modality at all", where="present", hint="give at least one")
    return present.to(feats[0].dtype)


def on_present(block: nn.Module, x: Tensor, here: Tensor, channels: int) -> Tensor:
    """``block(x)`` of the pictures that have the modality, zeros for the others.

    What stands where a modality is missing reaches no batch norm, so it changes no other picture.

    Args:
        block: keeps the maps' size.
        x: [B, C, H, W].
        here: [B], 1 where the picture has the modality, else 0.
        channels: of the result.
    """
    rows = here.nonzero()[:, 0]
    if len(rows) == len(here):
        out: Tensor = block(x)
        return out
    if not len(rows):
        return x.new_zeros(len(x), channels, *x.shape[-2:]) + x[:0].sum() + nothing(block)
    return scattered(block(x[rows]), rows, len(here))


def nothing(block: nn.Module) -> Tensor:
    """Zero, with a zero gradient to the block's parameters: every process has the same ones."""
    return torch.stack([p.flatten()[:0].sum() for p in block.parameters()]).sum()


def scattered(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """``values`` [n, ...] at ``rows`` [n] of [count, ...], zeros elsewhere."""
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values)


class Norm2d(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where a batch holds a single value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        if x.shape[0] * x.shape[2] * x.shape[3] > 1 or not self.training:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ConvNormReLU(nn.Sequential):
    """Convolution, batch norm, ReLU; CBR in the papers."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int = 3, eps: float = 1e-5) -> None:
        super().__init__(
            nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2),
            Norm2d(fan_out, eps=eps),
            nn.ReLU(),
        )


class JoinedNormReLU(nn.Module):
    """CBR of a concatenation, kept as one convolution per part so that a part can be missing or permuted.

    ``conv(cat(x_1 .. x_k)) = sum_j conv_j(x_j)``; the bias is counted once.
    """

    def __init__(self, fan_in: Sequence[int], fan_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Conv2d(c, fan_out, kernel, padding=kernel // 2, bias=False) for c in fan_in
        )
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.norm = Norm2d(fan_out)

    def forward(self, xs: Sequence[Tensor], scale: Tensor | None = None) -> Tensor:
        """Parts [B, C_j, H, W] to [B, D, H, W]; ``scale`` [B] multiplies the sum before the bias."""
        total = self.parts[0](xs[0])
        for conv, x in zip(self.parts[1:], xs[1:], strict=True):
            total = total + conv(x)
        if scale is not None:
            total = total * scale.view(-1, 1, 1, 1)
        return torch.relu(self.norm(total + self.bias.view(1, -1, 1, 1)))
