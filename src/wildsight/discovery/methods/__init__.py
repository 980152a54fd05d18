"""The task's methods: a file each, registered by name. `DiscoveryMethod` is what the discoverer drives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from wildsight.discovery.clustering import Clustering, Ids, Rows
from wildsight.estimators.registry import Registry
from wildsight.training import TrainConfig

Step = Callable[[int], object]


@dataclass(frozen=True)
class DiscoveryMethod:
    """A method with its hyper-parameters; frozen, so that two can be compared by their values.

    A method without training is a `ClusteringMethod`; one that trains is an `NNGCD` with other values.
    """

    title: ClassVar[str]
    """Name for tables."""
    trained: ClassVar[bool] = False
    """True when it learns by gradient."""

    def recipe(self) -> TrainConfig:
        """Its training settings."""
        return TrainConfig()


@dataclass(frozen=True)
class ClusteringMethod(DiscoveryMethod):
    """A method that groups frozen features."""

    @property
    def runs(self) -> int:
        """How often `group` calls ``progress``."""
        return 1

    @abstractmethod
    def group(
        self, rows: Rows, labels: Ids, k: int, *, seed: int = 0, progress: Step | None = None
    ) -> Clustering:
        """Group unit rows [N, d] into ``k`` groups, the known classes first.

        Args:
            rows: features.
            labels: [N] class of labelled rows (0 .. known - 1), -1 for the others.
            k: number of groups.
            seed: of whatever is drawn.
            progress: called with 1 after each of `runs`.

        Raises:
            ConfigError: ``k`` below the known classes or above the rows there are.
            DataError: NaN, or rows that are all the same.
        """


METHODS: Registry[DiscoveryMethod] = Registry(
    "method", "wildsight.discovery.methods", order=("sskmeans", "nngcd", "simgcd", "legogcd", "cms", "kmeans")
)
