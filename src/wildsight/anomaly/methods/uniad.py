"""UniAD, the baseline RAS grew from: a transformer that reconstructs features from learned queries.

Paper: "A Unified Model for Multi-class Anomaly Detection" (NeurIPS 2022, arXiv 2206.03687). Implemented:
feature jitter, neighbour-masked encoder, layer-wise query decoder, mean squared error, residual map.

Differences from the published code:
    1. Layers start independent of each other; ``init="reference"`` gives the query tables and the fused
       attention projections equal starts.
    2. Noise is relative to a feature's RMS: 1.213 is scale 20 at C = 272.
    3. The neighbour mask is built once, not at every forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from wildsight.anomaly.attention import FeedForward, MultiHead, TokenEncoder, share_start
from wildsight.anomaly.methods import METHODS, RECIPE, AnomalyMethod, residual_map
from wildsight.anomaly.methods.ras import noisy, reconstruction_loss, warn_without_noise
from wildsight.errors import ConfigError


@METHODS.register("uniad")
@dataclass(frozen=True, kw_only=True)
class UniAD(AnomalyMethod):
    """UniAD with its hyper-parameters; defaults are the paper's.

    Published training: AdamW 1e-4, divided by ten after 800 of 1000 epochs, batch 64, seed 133.
    """

    title = "UniAD"
    trained = True
    recipe = replace(RECIPE, lr=1e-4)

    d: int = 256
    """Hidden channels."""
    heads: int = 8
    """Attention heads; divides ``d``."""
    ffn: int = 1024
    """Hidden channels of the feed-forward layers."""
    encoder_layers: int = 4
    """Encoder layers, >= 0."""
    decoder_layers: int = 4
    """Decoder layers, >= 1."""
    dropout: float = 0.1
    """Share dropped while training, in [0, 1)."""
    noise_ratio: float = 1.213
    """Standard deviation of the jitter relative to a feature's RMS, >= 0."""
    neighbour: Literal["none", "encoder", "all"] = "all"
    """Which attentions may not look at a token's neighbourhood."""
    kernel: int = 7
    """Side of that neighbourhood in tokens, odd."""
    init: Literal["independent", "reference"] = "independent"
    """Whether layers start apart or with equal query tables and attention projections."""

    def head(self) -> UniADHead:
        """The trainable part; see `UniADHead`."""
        return UniADHead(self)

    def score(self, head: nn.Module, features: Tensor) -> tuple[Tensor, None]:
        """`residual_map` of the reconstruction."""
        return residual_map(head(features), features), None


class UniADLayer(nn.Module):
    """``a = LN(q + MHA(q, m, m))``; ``b = LN(a + MHA(a, o, o))``; ``LN(b + FFN(b))``."""

    def __init__(self, config: UniAD) -> None:
        super().__init__()
        d = config.d
        self.query = nn.Parameter(torch.randn(config.grid[0] * config.grid[1], d))
        self.to_memory = MultiHead(d, config.heads, config.dropout)
        self.to_previous = MultiHead(d, config.heads, config.dropout)
        self.memory_norm, self.previous_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.feed = FeedForward(d, config.ffn, config.dropout)

    def forward(self, previous: Tensor, memory: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """``o_{t-1}`` and memory, both ``[B, N, d]``, to ``o_t``."""
        fixed = self.to_memory.constants(positions)
        query = self.to_memory.queries(self.query, fixed)[None]
        key, value = self.to_memory.keys_values(memory, fixed)
        a = self.memory_norm(self.query + self.to_memory.mix(query, key, value, mask))
        fixed = self.to_previous.constants(positions)
        key, value = self.to_previous.keys_values(previous, fixed)
        seen = self.to_previous.mix(self.to_previous.queries(a, fixed), key, value, mask)
        out: Tensor = self.feed(self.previous_norm(a + seen))
        return out


class UniADHead(TokenEncoder):
    """The trainable part of UniAD: feature map in, reconstructed feature map out.

    Args:
        config: sizes and switches.

    Raises:
        ConfigError: sizes that do not divide, no decoder layer, or a mask that blocks everything.
    """

    def __init__(self, config: UniAD) -> None:
        if config.decoder_layers < 1:
            raise ConfigError("UniAD needs at least one decoder layer", where="decoder_layers")
        warn_without_noise(config.noise_ratio)
        super().__init__(config)
        self.config = config
        self.decoder = nn.ModuleList(UniADLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.d)
        if config.init == "reference":
            self._start_equal()

    def _start_equal(self) -> None:
        share_start([layer.query for layer in self.decoder])
        share_start([layer.attention.weight for layer in self.encoder])
        share_start([layer.to_memory.weight for layer in self.decoder])
        share_start([layer.to_previous.weight for layer in self.decoder])

    def forward(self, f: Tensor, eps: Tensor | None = None) -> Tensor:
        """Reconstruct ``f [B, C, H, W]``; ``eps`` (training only) is standard normal, shape of ``f``."""
        self.check(f)
        positions = self.positions()
        noised = noisy(f, self.config.noise_ratio, eps, self.training)
        memory = self.encode(noised, self.encoder_constants(positions))
        out = memory
        for layer in self.decoder:
            out = layer(out, memory, positions, self.mask_for("decoder"))
        return self.to_map(self.norm(out))

    def loss(self, f_hat: Tensor, f: Tensor) -> Tensor:
        """`reconstruction_loss` against the clean features."""
        return reconstruction_loss(f_hat, f)
