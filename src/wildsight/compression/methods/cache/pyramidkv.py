"""PyramidKV: SnapKV's ranking, with a cache that shrinks from the first layer to the last.

Paper: "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling" (arXiv 2406.02069).
Implemented: sizes that fall linearly with depth (`wildsight.compression.methods.cache.sizes.pyramid_shares`).
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.compression.methods.cache.base import CACHE_METHODS
from wildsight.compression.methods.cache.sizes import pyramid_shares
from wildsight.compression.methods.cache.snapkv import SnapKV
from wildsight.compression.methods.parameters import within


@CACHE_METHODS.register("pyramidkv")
@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """PyramidKV."""

    beta: float = 20.0
    """Steepness: the last layer gets the mean share over ``beta``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1.0, 1e6, "beta")

    def shares(self, share: float, layers: int) -> list[float]:
        """Falling with depth."""
        return pyramid_shares(share, layers, self.beta)
