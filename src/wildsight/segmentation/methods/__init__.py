"""The task's methods: a file each, registered by name. `SegmentationMethod` is what the segmenter drives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from wildsight.estimators.registry import Range, Registry, from_data
from wildsight.segmentation.adapter import Adapter
from wildsight.segmentation.base import SamBase
from wildsight.training import TrainConfig

RECIPE = TrainConfig(epochs=16, batch_size=8, weight_decay=0.0, schedule="drop", lr=1e-3)
"""SPT's: Adam without weight decay, the rate a tenth after 10 of 16 epochs."""
PROJECTIONS: Range = (lambda v: set(v) <= {"q", "k", "v"}, "use q, k and v")


@dataclass(frozen=True, kw_only=True)
class SegmentationMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values.

    Attributes:
        seed: of the initialisation.
    """

    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = True
    """False when there is nothing to learn."""
    recipe: ClassVar[TrainConfig] = RECIPE
    """Training settings, at batch 8."""

    seed: int = from_data(0)

    def seeded(self, seed: int) -> Self:
        """The same with another seed."""
        return replace(self, seed=seed)

    @abstractmethod
    def adapter(self, base: SamBase) -> Adapter:
        """A new adapter for ``base``, which is left as it is.

        Raises:
            ConfigError: a hyper-parameter that does not fit this base.
        """


METHODS: Registry[SegmentationMethod] = Registry(
    "method",
    "wildsight.segmentation.methods",
    order=(
        "spt",
        "zero-shot",
        "zero-shot-2",
        "decoder",
        "lora",
        "lora-draft",
        "lora-relation",
        "sam-adapter",
        "conv-lora",
    ),
)
