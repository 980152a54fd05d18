"""The two controls: the most recent tokens (StreamingLLM), and columns drawn at random.

Paper: "Efficient Streaming Language Models with Attention Sinks" (ICLR 2024, arXiv 2309.17453): the first
tokens and the last ones. Difference: the first ``start`` tokens are one by default here, four there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wildsight.compression.methods.cache.scorer import Scorer, Stored


class Recent(Scorer):
    """Later is better."""

    def scores(self, stored: Stored, /) -> Tensor:
        """The column's index."""
        return (
            torch.arange(stored.valid.shape[1], device=stored.valid.device)
            .float()
            .expand_as(stored.valid)[:, None]
        )


class Random(Scorer):
    """Uniform draws from (seed, layer)."""

    def scores(self, stored: Stored, /) -> Tensor:
        """Uniform in [0, 1)."""
        draw = torch.Generator().manual_seed(self.seed * 1009 + self.layer)
        return torch.rand(stored.valid.shape, generator=draw).to(stored.valid.device)[:, None]
