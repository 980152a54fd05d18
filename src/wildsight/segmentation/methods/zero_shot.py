"""Stock SAM as it is: one pass, or two with its own logits fed back. Nothing is trained.

Paper: Segment Anything (ICCV 2023, arXiv 2304.02643). Two passes stand beside SPT as the refine pass without
any tuning. Single-mask token in both; no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

from wildsight.estimators.registry import Range, check_ranges
from wildsight.segmentation.adapter import Adapter
from wildsight.segmentation.base import SamBase
from wildsight.segmentation.methods import METHODS, SegmentationMethod

ONE_OR_TWO: Range = (lambda v: v in (1, 2), "give 1 or 2")


@METHODS.register("zero-shot")
@dataclass(frozen=True, kw_only=True)
class ZeroShot(SegmentationMethod):
    """Stock SAM in one pass."""

    title = "SAM, one pass"
    trained = False

    passes: int = 1
    """1, or 2 with the first mask fed back."""

    def __post_init__(self) -> None:
        check_ranges(self, passes=ONE_OR_TWO)

    def adapter(self, base: SamBase) -> StockSam:  # noqa: ARG002
        """Nothing added."""
        return StockSam(self.passes)


@METHODS.register("zero-shot-2")
@dataclass(frozen=True, kw_only=True)
class ZeroShotTwice(ZeroShot):
    """Stock SAM in two passes."""

    title = "SAM, two passes"

    passes: int = 2
    """1, or 2 with the first mask fed back."""


class StockSam(Adapter):
    """No parameters."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.passes = passes
