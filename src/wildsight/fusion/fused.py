"""What every fusion gives, whatever its method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
        raise ConfigError(f"feature maps of sizes {sorted(shapes)}", mend="give all modalities one size")
    if present is None:
        return feats[0].new_ones(len(feats[0]), len(feats))
    if not bool(present.any(dim=1).all()):
        raise ConfigError("a picture has no modality at all", where="present", mend="give at least one")
    return present.to(feats[0].dtype)


class ConvNormReLU(nn.Sequential):
    """Convolution, batch norm, ReLU; CBR in the papers."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int = 3, eps: float = 1e-5) -> None:
        super().__init__(
            nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2),
            nn.BatchNorm2d(fan_out, eps=eps),
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
        self.norm = nn.BatchNorm2d(fan_out)

    def forward(self, xs: Sequence[Tensor], scale: Tensor | None = None) -> Tensor:
        """Parts [B, C_j, H, W] to [B, D, H, W]; ``scale`` [B] multiplies the sum before the bias."""
        total = self.parts[0](xs[0])
        for conv, x in zip(self.parts[1:], xs[1:], strict=True):
            total = total + conv(x)
        if scale is not None:
            total = total * scale.view(-1, 1, 1, 1)
        return torch.relu(self.norm(total + self.bias.view(1, -1, 1, 1)))
