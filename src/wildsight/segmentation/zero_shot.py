"""Stock SAM as it is: one pass, or two with its own logits fed back. Nothing is trained.

Paper: Segment Anything (ICCV 2023, arXiv 2304.02643). Two passes stand beside SPT as the refine pass without
any tuning. Single-mask token in both; no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.errors import ConfigError
from wildsight.segmentation.adapter import Adapter
from wildsight.segmentation.base import SamBase


@dataclass(frozen=True)
class ZeroShotConfig:
    """Hyper-parameters.

    Attributes:
        passes: 1 or 2.
    """

    passes: int = 1

    def __post_init__(self) -> None:
        if self.passes not in (1, 2):
            raise ConfigError(f"passes={self.passes}", hint="give 1 or 2")


class ZeroShot(Adapter):
    """No parameters."""

    def __init__(self, config: ZeroShotConfig, _base: SamBase) -> None:
        super().__init__()
        self.passes = config.passes
