"""PaDiM: one Gaussian per position over normal features, scored by the Mahalanobis distance.

Paper: "PaDiM" (ICPR 2020 workshops, arXiv 2011.08785). Implemented: random channel subset, per-position mean
and regularised covariance, Mahalanobis map.

Differences from the published code:
    1. One Gaussian per position over all categories (the paper fits one per category), so that it answers
       the same question as RAS: one model, category unknown.
    2. The covariance is accumulated in float64 picture by picture, and kept as the inverse of its Cholesky
       factor instead of its inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wildsight.anomaly.methods import METHODS, AnomalyMethod
from wildsight.anomaly.methods.patchcore import FittedBuffers, pictures
from wildsight.errors import ConfigError, DataError


@METHODS.register("padim")
@dataclass(frozen=True, kw_only=True)
class PaDiMMethod(AnomalyMethod):
    """PaDiM with its hyper-parameters; defaults are the paper's."""

    title = "PaDiM"

    dims: int = 100
    """Channels drawn at random; all of them where there are fewer."""
    regularisation: float = 0.01
    """Added to the covariance's diagonal, > 0."""

    def head(self) -> PaDiM:
        """Gaussians to be fitted; its seed is that of the channel draw."""
        return PaDiM(self)

    def score(self, head: nn.Module, features: Tensor) -> tuple[Tensor, None]:
        """Mahalanobis map."""
        return head(features), None


def gaussians(points: Iterable[Tensor], regularisation: float) -> tuple[Tensor, Tensor]:
    """Mean ``[P, k]`` and covariance ``[P, k, k]`` (divisor n - 1) of two or more ``[P, k]``, float64."""
    stream = (point.double() for point in points)
    origin = next(stream)
    total, outer, count = torch.zeros_like(origin), origin.new_zeros(*origin.shape, origin.shape[1]), 1
    for point in stream:
        offset = point - origin
        total += offset
        outer.baddbmm_(offset[:, :, None], offset[:, None])
        count += 1
    shift = total / count
    outer.baddbmm_(shift[:, :, None], shift[:, None], alpha=-count)
    covariance = outer / (count - 1) + regularisation * torch.eye(origin.shape[1], dtype=origin.dtype)
    return origin + shift, covariance


class PaDiM(FittedBuffers):
    """Per-position Gaussians. Buffers: ``kept [k]``, ``mean [H, W, k]``, ``whiten [H, W, k, k]``.

    Args:
        config: channel subset and regularisation.

    Raises:
        ConfigError: a setting that is not positive.
    """

    kept: Tensor
    mean: Tensor
    whiten: Tensor

    def __init__(self, config: PaDiMMethod | None = None) -> None:
        super().__init__(kept=torch.int64, mean=torch.float32, whiten=torch.float32)
        self.config = config or PaDiMMethod()
        if self.config.dims < 1 or self.config.regularisation <= 0.0:
            raise ConfigError("dims and regularisation must be positive", where="PaDiMMethod")

    @torch.no_grad()
    def fit(self, features: Sequence[Any] | np.ndarray | Tensor) -> PaDiM:
        """Fit normal ``features [N, C, H, W]`` (or a sequence of ``[C, H, W]``), N >= 2.

        Raises:
            DataError: fewer than two pictures, or features of another shape.
        """
        if len(features) < 2:
            raise DataError(f"{len(features)} pictures have no covariance", where="features", hint="give two")
        channels, *grid = features[0].shape
        generator = torch.Generator().manual_seed(self.config.seed)
        kept = torch.randperm(channels, generator=generator)[: self.config.dims].sort().values
        points = (picture[kept].flatten(1).T for picture in pictures(features))
        mean, covariance = gaussians(points, self.config.regularisation)
        identity = torch.eye(len(kept), dtype=mean.dtype).expand_as(covariance)
        whiten = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False)
        device = self.mean.device
        self.kept = kept.to(device)
        self.mean = mean.unflatten(0, grid).float().contiguous().to(device)
        self.whiten = whiten.unflatten(0, grid).float().contiguous().to(device)
        return self

    @torch.no_grad()
    def forward(self, f: Tensor) -> Tensor:
        """Mahalanobis map ``[B, 1, H, W]`` of ``f [B, C, H, W]``.

        Raises:
            ConfigError: nothing fitted, or another grid or number of channels.
        """
        self._check(f)
        offset = f.float()[:, self.kept].permute(2, 3, 1, 0) - self.mean[..., None]
        return torch.linalg.vector_norm(self.whiten @ offset, dim=2).permute(2, 0, 1)[:, None]

    def _check(self, f: Tensor) -> None:
        if torch.compiler.is_exporting():  # a traced graph has its shapes fixed
            return
        if len(self.kept) == 0:
            raise ConfigError("nothing is fitted", where="PaDiM", hint="call fit or load a saved model")
        grid = tuple(self.mean.shape[:2])
        if f.dim() != 4 or tuple(f.shape[2:]) != grid or f.shape[1] <= int(self.kept.max()):
            raise ConfigError(
                f"features of shape {tuple(f.shape)} do not fit Gaussians on a {grid[0]}x{grid[1]} grid",
                where="features",
                hint="use the backbone and the picture size the model was fitted with",
            )
