"""PWRF: part capsules of every modality are routed to whole capsules of the fused one.

Paper: "Part-Whole Relational Fusion Towards Multi-Modal Scene Understanding" (IJCV 133, 2025, arXiv
2410.14944). Implemented: reduction, part capsules per row and per column, their disentangled EM routing
(`routing`), the modal-shared map from the wholes, the modal-specific map from the routing coefficients, the
gates.

Differences from the published code (hyper-parameters of `PWRF`; `PWRF.released` undoes all of them):
    1. ``mix``: part capsules keep their modality; published, a convolution over all of them comes first.
    2. ``weigh_parts``: a part's activation weighs its vote (see `routing`).
    3. ``coefficient``: the share of each modality in the wholes (`capsules.omega`); the published one is 1/M
       whatever the input. ``agreement`` turns a noisy modality down further.
    4. ``tile``: a coefficient weighs its own capsule; published, it lands on others.
    5. ``collapse``, ``ref_len``: maps of any size; the collapse vector is stretched, or replaced.
    6. ``width`` and ``kernel``: 128 channels and 1 x 1 joins in place of 256 and 3 x 3.
    7. Any number of modalities, each picture with any subset of them: a missing one is taken out of the
       routing, of every sum and of the batch norms' statistics, and the sums are scaled up. With
       ``mix="released"`` it enters the convolution over all capsules as zeros, and its block of what comes
       out is not routed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from wildsight.errors import ConfigError
from wildsight.estimators.registry import at_least, check_ranges
from wildsight.fusion.capsules import AxisCapsules, Parts, weighted
from wildsight.fusion.fused import ConvNormReLU, Fused, JoinedNormReLU, on_present, presence
from wildsight.fusion.methods import CONCATENATED, METHODS, FusionMethod


@METHODS.register("pwrf")
@dataclass(frozen=True, kw_only=True)
class PWRF(FusionMethod):
    """PWRF with its hyper-parameters, by the paper's symbols."""

    title = "PWRF"
    fine = CONCATENATED

    A: int | None = None
    """Channels after reduction; None: as many as the fused map has. 32 as published."""
    T: int = 8
    """Part capsules per modality and position."""
    C: int = 8
    """Whole capsules per position."""
    iters: int = 3
    """EM iterations, >= 1."""
    lam: float = 1e-3
    """Inverse temperature of the wholes' activation."""
    eps: float = 1e-8
    """Keeps divisions finite."""
    mix: Literal["none", "per_modality", "released"] = "none"
    """What happens to part capsules before routing: nothing, a layer norm per modality, or the published
    convolution over all of them."""
    weigh_parts: bool = True
    """Whether activations weigh votes."""
    coefficient: Literal["omega", "agreement", "constant"] = "omega"
    """What weighs the specific branch: shares in the wholes, the same with wholes that several modalities
    make counting more, or the published constant."""
    tile: bool = False
    """The published order of the coefficients over channels."""
    collapse: Literal["linear", "attn"] = "linear"
    """How the other axis is collapsed: a learned vector, or input-dependent attention."""
    ref_len: int = 12
    """Length at which the learned vector is stored."""
    kernel: int = 1
    """Kernel of the joins of shared with specific, odd; 3 as published."""
    axes: Literal["both", "rows", "columns", "cells"] = "both"
    """What is routed: rows and columns apart, as published; one of them alone, or every cell of the map (2-D
    routing, slow), are ablations."""
    routed: bool = True
    """False is an ablation: part capsules stand where the wholes would, and all modalities weigh the same."""
    streams: Literal["both", "shared", "specific"] = "both"
    """Which maps leave the module; one alone is an ablation."""
    fused: bool = True
    """False holds the whole votes tensor."""

    def __post_init__(self) -> None:
        one = at_least(1)
        if self.A is not None:
            check_ranges(self, A=one)
        check_ranges(self, T=one, C=one, iters=one, ref_len=one, kernel=one, lam=at_least(0), eps=at_least(0))
        if not self.routed and self.coefficient != "constant":
            hint = 'give coefficient="constant"'
            raise ConfigError("without routing there are no coefficients", where="PWRF", hint=hint)
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel} has no centre", hint="give an odd number")

    @classmethod
    def released(cls, ref_len: int = 12) -> PWRF:
        """The published module: three modalities, 256 channels, maps of ``ref_len`` squared."""
        return cls(
            channels=256, modalities=3, width=256, A=32, mix="released", weigh_parts=False,
            coefficient="constant", tile=True, ref_len=ref_len, kernel=3,
        )  # fmt: skip

    @property
    def maps(self) -> int:
        """The shared and the specific map, or one of them."""
        return 2 if self.streams == "both" else 1

    @property
    def reduced(self) -> int:
        """Channels after reduction."""
        return self.width if self.A is None else self.A

    def module(self) -> PWRFFusion:
        """The routed fusion."""
        return PWRFFusion(self)

    def capsules(self) -> AxisCapsules:
        """New capsules of one axis; of single cells, whose other axis has length 1, there is no vector."""
        return AxisCapsules(
            self.modalities,
            self.reduced,
            self.T,
            self.C,
            iters=self.iters,
            lam=self.lam,
            eps=self.eps,
            mix=self.mix,
            weigh_parts=self.weigh_parts,
            coefficient=self.coefficient,
            collapse="attn" if self.axes == "cells" else self.collapse,
            ref_len=self.ref_len,
            routed=self.routed,
            fused=self.fused,
        )


class _Grids(NamedTuple):
    """Wholes [B, K, H, W], one modality's weighed parts [B, 17T, H, W] on demand, shares [B, M, H, W]."""

    whole: Tensor
    part: Callable[[int], Tensor]
    share: Tensor


class PWRFFusion(nn.Module):
    """One fusion of M feature maps of one scale.

    Args:
        config: sizes and switches.
    """

    def __init__(self, config: PWRF) -> None:
        super().__init__()
        self.config = config
        m, width, a, t = config.modalities, config.width, config.reduced, config.T
        self.reduce = nn.ModuleList(ConvNormReLU(config.channels, a, eps=1e-3) for _ in range(m))
        if config.axes == "cells":
            self.cells = config.capsules()
        else:
            self.rows, self.columns = config.capsules(), config.capsules()
        self.shared = JoinedNormReLU([a] * m + [17 * (config.C if config.routed else t * m)], width)
        self.own = nn.ModuleList(ConvNormReLU(a + 17 * t, width) for _ in range(m))
        self.join = nn.ModuleList(ConvNormReLU(2 * width, width, config.kernel) for _ in range(m))
        self.gate = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for _ in range(m))
        self.specific = JoinedNormReLU([width] * m, width, config.kernel)

    def forward(self, feats: Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """Fuse M maps [B, channels, H, W].

        Args:
            feats: one map per modality, in the order of training; a missing one may hold anything finite.
            present: [B, M] bool, which modality each picture has; None: all.

        Raises:
            ConfigError: maps of different sizes, another number of them, or a picture without any.
        """
        if len(feats) != self.config.modalities:
            hint = f"give {self.config.modalities}, some may be missing"
            raise ConfigError(f"{len(feats)} modalities", where="PWRF", hint=hint)
        here = presence(feats, present)
        scale = self.config.modalities / here.sum(1)
        each = zip(self.reduce, feats, here.T, strict=True)
        z = [on_present(f, x, w, self.config.reduced) for f, x, w in each]
        stacked = torch.stack(z, dim=1)
        grids = self._cells(stacked, here) if self.config.axes == "cells" else self._axes(stacked, here)
        up = scale.view(-1, 1, 1, 1)
        whole = grids.whole if self.config.routed else grids.whole * up
        shared = self.shared([*(s * up for s in z), whole])
        if self.config.streams == "shared":
            return Fused(shared, None, grids.share)
        own = []
        for i in range(self.config.modalities):
            o = on_present(self.own[i], torch.cat([z[i], grids.part(i)], 1), here[:, i], self.config.width)
            f = on_present(self.join[i], torch.cat([shared, o], dim=1), here[:, i], self.config.width)
            own.append(f * (1.0 + self.gate[i](o).sigmoid()))
        specific = self.specific(own, scale)
        if self.config.streams == "specific":
            return Fused(specific, None, grids.share)
        return Fused(shared, specific, grids.share)

    def _axes(self, z: Tensor, here: Tensor) -> _Grids:
        """Rows and columns of [B, M, A, H, W], routed apart; their outer products."""
        parts_h, parts_v = self.rows.parts(z), self.columns.parts(z.transpose(-1, -2))
        whole_h, whole_v = self.rows.wholes(parts_h, here), self.columns.wholes(parts_v, here)
        coeff_h, coeff_v = self._alone(self.rows.coefficients(whole_h), self.columns.coefficients(whole_v))

        def part(i: int) -> Tensor:
            return self._grid(self._weighed(parts_h, i, coeff_h), self._weighed(parts_v, i, coeff_v))

        return _Grids(self._grid(whole_h.g, whole_v.g), part, contribution(coeff_h, coeff_v))

    def _cells(self, z: Tensor, here: Tensor) -> _Grids:
        """Every cell of [B, M, A, H, W] routed by itself."""
        size = z.shape[-2:]
        parts = self.cells.parts(z.flatten(-2)[..., None])
        whole = self.cells.wholes(parts, here)
        coeff = self.cells.coefficients(whole)

        def part(i: int) -> Tensor:
            return self._weighed(parts, i, coeff).unflatten(-1, size)

        share = coeff.mean(-1).transpose(1, 2).unflatten(-1, size)
        return _Grids(whole.g.unflatten(-1, size), part, share / share.sum(1, keepdim=True).clamp_min(1e-12))

    def _weighed(self, parts: Parts, i: int, coeff: Tensor) -> Tensor:
        """One modality's capsules [B, 17T, L] by its coefficients; equal ones of all M are the identity.

        The published scale, 1/M, goes with the published order.
        """
        times = 1 if self.config.tile else self.config.modalities
        return weighted(parts, i, times * coeff[:, :, i], self.config.tile)

    def _alone(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Both axes; where one alone is routed, ones for the other."""
        axes = self.config.axes
        return (
            torch.ones_like(rows) if axes == "columns" else rows,
            torch.ones_like(columns) if axes == "rows" else columns,
        )

    def _grid(self, rows: Tensor, columns: Tensor) -> Tensor:
        """[B, D, H] and [B, D, W] to [B, D, H, W]."""
        return _outer(*self._alone(rows, columns))


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    """[B, D, H] and [B, D, W] to [B, D, H, W]."""
    return rows[..., :, None] * columns[..., None, :]


def contribution(coeff_h: Tensor, coeff_v: Tensor) -> Tensor:
    """Coefficients of rows [B, H, M, T] and columns [B, W, M, T] as one map [B, M, H, W], 1 over M."""
    product = torch.einsum("bhmt,bwmt->bmhw", coeff_h, coeff_v)
    return product / product.sum(1, keepdim=True).clamp_min(1e-12)
