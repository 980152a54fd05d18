"""RAS: reconstruct normal features as a sequence, call what cannot be reconstructed an anomaly.

Paper: "RAS" (ECAI 2024, arXiv 2409.06285). One model for many categories, trained on normal pictures.
Implemented: neck smoothing (`smooth_neck`), feature jitter (`jitter`), adaptive gate (`gate`), spatial and
sequential dynamics (`RASStep`), loss (`reconstruction_loss`), map and score (`residual_map`, `image_score`).

Differences from the published code:
    1. One output projection instead of one per step. Only the last step's output is ever used or
       supervised, so the function is the same with fewer parameters; there is nothing to undo.
    2. Steps and layers start independent of each other; ``init="reference"`` gives the context tables and
       the fused attention projections equal starts.
    3. Noise is set relative to a feature's RMS (``noise_ratio = scale / sqrt(C)``), so that another backbone
       keeps the same noise; 1.516 is scale 25 at C = 272.
    4. ``attention=False`` (an ablation the paper names without a formula) puts ``g_t`` in the place of the
       attention's output: no token sees another one.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildsight.anomaly.attention import FeedForward, MultiHead, TokenEncoder, linear, share_start
from wildsight.anomaly.methods import METHODS, RECIPE, AnomalyMethod, image_score, residual_map
from wildsight.errors import ConfigError


@METHODS.register("ras")
@dataclass(frozen=True, kw_only=True)
class RAS(AnomalyMethod):
    """RAS with its hyper-parameters; defaults are the paper's.

    Published training: AdamW 7e-4 (VisA 1e-3, BTAD 9e-4), batch 64, 500 epochs, seed 333.
    """

    title = "RAS"
    trained = True
    recipe = replace(RECIPE, lr=7e-4)

    d: int = 256
    """Hidden channels."""
    heads: int = 8
    """Attention heads; divides ``d``."""
    ffn: int = 1024
    """Hidden channels of the feed-forward layers."""
    encoder_layers: int = 2
    """T_e; 0 starts the sequence from the projected features."""
    decoder_steps: int = 4
    """T_d, steps of the sequence, >= 1."""
    dropout: float = 0.0
    """Share dropped while training, in [0, 1)."""
    noise_ratio: float = 1.516
    """Standard deviation of the jitter relative to a feature's RMS, >= 0."""
    neighbour: Literal["none", "encoder", "all"] = "encoder"
    """Which attentions may not look at a token's neighbourhood."""
    kernel: int = 7
    """Side of that neighbourhood in tokens, odd."""
    gate: bool = True
    """Off: ``g_t = l_{t-1}``."""
    attention: bool = True
    """Off: the step's attention output is ``g_t`` itself."""
    init: Literal["independent", "reference"] = "independent"
    """Whether steps start apart or with equal context tables and attention projections."""

    def head(self) -> RASHead:
        """The trainable part; see `RASHead`."""
        return RASHead(self)

    def score(self, head: nn.Module, features: Tensor) -> tuple[Tensor, None]:
        """`residual_map` of the reconstruction."""
        return residual_map(head(features), features), None


class StepConstants(NamedTuple):
    """What a step computes from its own tables alone, the same for every picture."""

    query: Tensor
    """``W_q (c_t + p) + b_q``, ``[N, d]`` (empty without attention)."""
    keys_values: Tensor
    """``[W_k p + b_k, b_v]`` behind the query's columns, ``[N, 3d]`` (empty without attention)."""
    gate: Tensor
    """``W_A[:, :d] c_t``, ``[N, d]`` (empty without gate)."""


def smooth_neck(feature: Tensor, patch: int = 3, mode: str = "avg") -> Tensor:
    """Mean (or maximum) over each position's ``patch x patch`` neighbourhood, zeros outside counted.

    Args:
        feature: ``[B, C, H, W]``.
        patch: odd side of the neighbourhood in positions; 1 leaves the map as it is.
        mode: ``"avg"`` or ``"max"``.

    Returns:
        ``[B, C, H, W]``.

    Raises:
        ConfigError: an even ``patch`` or an unknown ``mode``.
    """
    if patch < 1 or patch % 2 == 0:
        raise ConfigError(f"patch={patch} has no centre", where="patch", hint="give an odd number >= 1")
    if mode == "avg":
        return F.avg_pool2d(feature, patch, stride=1, padding=patch // 2)
    if mode == "max":
        return F.max_pool2d(F.pad(feature, [patch // 2] * 4), patch, stride=1)
    raise ConfigError(f"mode={mode!r} is unknown", where="mode", hint="use avg or max")


def resize_to_grid(x: Tensor, grid: tuple[int, int], align_corners: bool = True) -> Tensor:
    """Bilinear resize of ``[B, C, h, w]`` to ``[B, C, *grid]``; the paper aligns corners, both ways."""
    return F.interpolate(x, size=grid, mode="bilinear", align_corners=align_corners)


def jitter(f: Tensor, noise_ratio: float, eps: Tensor) -> Tensor:
    """``f_i + noise_ratio * ||f_i|| / sqrt(C) * eps_i`` for every token of ``f [B, C, H, W]``.

    Args:
        f: feature map.
        noise_ratio: standard deviation of the noise relative to the token's RMS.
        eps: standard normal draws, shape of ``f``.
    """
    rms = torch.linalg.vector_norm(f, dim=1, keepdim=True) / math.sqrt(f.shape[1])
    return f + noise_ratio * rms * eps


def gate(hidden: Tensor, weight: Tensor, context_part: Tensor) -> Tensor:
    """``a_t = sigmoid(W_A [c_t ; l])``, with ``W_A``'s context half applied beforehand.

    Args:
        hidden: ``l_{t-1}`` ``[B, N, d]``.
        weight: hidden half of ``W_A``, ``[d, d]``.
        context_part: ``W_A[:, :d] c_t``, ``[N, d]``.

    Returns:
        Gate values in (0, 1), ``[B, N, d]``.
    """
    return torch.sigmoid(F.linear(hidden, weight) + context_part)


def reconstruction_loss(f_hat: Tensor, f: Tensor) -> Tensor:
    """Mean squared error against the clean features, over all elements, in float32."""
    return F.mse_loss(f_hat.float(), f.float())


def warn_without_noise(noise_ratio: float) -> None:
    """Warn when nothing closes the token-wise path from input to output.

    Raises:
        ConfigError: a negative ratio.
    """
    if noise_ratio < 0.0:
        raise ConfigError(
            f"noise_ratio={noise_ratio} is negative", where="noise_ratio", hint="give 0 or more"
        )
    if noise_ratio == 0.0:
        warnings.warn("noise_ratio=0 lets the head learn to copy anomalies", UserWarning, stacklevel=3)


def noisy(f: Tensor, noise_ratio: float, eps: Tensor | None, training: bool) -> Tensor:
    """`jitter` when ``eps`` is given.

    Raises:
        ConfigError: ``eps`` is given outside training.
    """
    if eps is None:
        return f
    if not training:
        raise ConfigError("noise was given to a head in eval mode", where="eps", hint="leave eps out")
    return jitter(f, noise_ratio, eps)


class RASStep(nn.Module):
    """One step: ``g = gate * l``; ``u = LN(c + MHA(c + p, g + p, g))``; ``l' = LN((W_U l + h) / 2)``."""

    def __init__(self, config: RAS) -> None:
        super().__init__()
        d = config.d
        self.context = nn.Parameter(torch.randn(config.grid[0] * config.grid[1], d))
        self.gate = linear(2 * d, d, bias=False) if config.gate else None
        self.attention = MultiHead(d, config.heads, config.dropout) if config.attention else None
        self.norm = nn.LayerNorm(d)
        self.feed = FeedForward(d, config.ffn, config.dropout)
        self.update = linear(d, d)
        self.out_norm = nn.LayerNorm(d)

    def constants(self, positions: Tensor) -> StepConstants:
        """The batch-independent products, from position table ``[N, d]``."""
        none = positions.new_empty(0)
        query, fixed, part = none, none, none
        if self.attention is not None:
            fixed = self.attention.constants(positions)
            query = self.attention.queries(self.context, fixed)
        if self.gate is not None:
            part = F.linear(self.context, self.gate.weight[:, : self.context.shape[1]])
        return StepConstants(query, fixed, part)

    def forward(self, hidden: Tensor, fixed: StepConstants, mask: Tensor | None) -> Tensor:
        """``l_{t-1}`` to ``l_t``, both ``[B, N, d]``."""
        passed = self.pass_on(hidden, fixed)
        u = self.norm(self.context + self.look(passed, fixed, mask))
        out: Tensor = self.out_norm((self.update(hidden) + self.feed(u)) / 2)
        return out

    def pass_on(self, hidden: Tensor, fixed: StepConstants) -> Tensor:
        """``g_t = a_t * l_{t-1}``."""
        if self.gate is None:
            return hidden
        return gate(hidden, self.gate.weight[:, self.context.shape[1] :], fixed.gate) * hidden

    def look(self, passed: Tensor, fixed: StepConstants, mask: Tensor | None) -> Tensor:
        """Attention of the context over the gated hidden map."""
        if self.attention is None:
            return passed
        key, value = self.attention.keys_values(passed, fixed.keys_values)
        return self.attention.mix(fixed.query[None], key, value, mask)


class RASHead(TokenEncoder):
    """The trainable part of RAS: feature map in, reconstructed feature map out.

    Args:
        config: sizes and switches.

    Raises:
        ConfigError: sizes that do not divide, no decoder step, or a mask that blocks everything.
    """

    def __init__(self, config: RAS) -> None:
        if config.decoder_steps < 1:
            raise ConfigError("RAS needs at least one decoder step", where="decoder_steps")
        warn_without_noise(config.noise_ratio)
        super().__init__(config)
        self.config = config
        self.steps = nn.ModuleList(RASStep(config) for _ in range(config.decoder_steps))
        if config.init == "reference":
            self._start_equal()

    def _start_equal(self) -> None:
        share_start([step.context for step in self.steps])
        share_start([layer.attention.weight for layer in self.encoder])
        if self.config.attention:
            share_start([step.attention.weight for step in self.steps])

    def constants(self) -> tuple[list[Tensor], list[StepConstants]]:
        """Batch-independent products of the encoder's layers and of the decoder's steps."""
        positions = self.positions()
        return self.encoder_constants(positions), [step.constants(positions) for step in self.steps]

    def forward(self, f: Tensor, eps: Tensor | None = None) -> Tensor:
        """Reconstruct ``f [B, C, H, W]``; ``eps`` (training only) is standard normal, shape of ``f``."""
        self.check(f)
        noised = noisy(f, self.config.noise_ratio, eps, self.training)
        return self.reconstruct(noised, *self.constants())

    def reconstruct(self, f: Tensor, encoder: list[Tensor], steps: list[StepConstants]) -> Tensor:
        """The forward pass, given every batch-independent product."""
        hidden = self.encode(f, encoder)
        for step, fixed in zip(self.steps, steps, strict=True):
            hidden = step(hidden, fixed, self.mask_for("decoder"))
        return self.to_map(hidden)

    def loss(self, f_hat: Tensor, f: Tensor) -> Tensor:
        """`reconstruction_loss` against the clean features."""
        return reconstruction_loss(f_hat, f)

    def fold(self) -> FoldedRAS:
        """A copy for inference whose input-independent products are computed once."""
        return FoldedRAS(self)


class FoldedRAS(nn.Module):
    """A frozen `RASHead` with its input-independent products stored; same maps, less arithmetic."""

    def __init__(self, head: RASHead) -> None:
        super().__init__()
        self.head = copy.deepcopy(head).eval().requires_grad_(False)
        with torch.no_grad():
            encoder, steps = self.head.constants()
        for index, tensor in enumerate(encoder):
            self.register_buffer(f"encoder_{index}", tensor)
        for index, fixed in enumerate(steps):
            for name, tensor in fixed._asdict().items():
                self.register_buffer(f"step_{index}_{name}", tensor)

    def forward(self, f: Tensor) -> Tensor:
        """Reconstruct ``f [B, C, H, W]``."""
        self.head.check(f)
        encoder = [self.get_buffer(f"encoder_{i}") for i in range(len(self.head.encoder))]
        steps = [self._step(i) for i in range(len(self.head.steps))]
        return self.head.reconstruct(f, encoder, steps)

    def _step(self, index: int) -> StepConstants:
        return StepConstants(*(self.get_buffer(f"step_{index}_{name}") for name in StepConstants._fields))


__all__ = [
    "RAS",
    "FoldedRAS",
    "RASHead",
    "gate",
    "image_score",
    "jitter",
    "reconstruction_loss",
    "residual_map",
    "smooth_neck",
]
