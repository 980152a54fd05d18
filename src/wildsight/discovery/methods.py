"""The room's methods under one interface: those that group frozen features, and those that train a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wildsight.discovery.cms import CMSConfig, cms
from wildsight.discovery.kmeans import KMeansConfig, kmeans
from wildsight.discovery.nngcd import NNGCDConfig
from wildsight.discovery.simgcd import simgcd_config
from wildsight.discovery.sskmeans import Clustering, SSKMeansConfig, ss_kmeans
from wildsight.errors import ConfigError


@dataclass(frozen=True)
class Method:
    """How the discoverer drives one method.

    Attributes:
        title: name for tables.
        config: makes its hyper-parameters from keywords.
        group: (rows, labels, k, config, *, seed, progress) -> grouping; None for a method that trains.
    """

    title: str
    config: Callable[..., Any]
    group: Callable[..., Clustering] | None = None

    @property
    def trained(self) -> bool:
        """True when it learns by gradient."""
        return self.group is None

    def settings(self, hyper: Mapping[str, Any]) -> Any:
        """Its hyper-parameters.

        Raises:
            ConfigError: an unknown name or a value outside its range.
        """
        try:
            return self.config(**hyper)
        except TypeError as error:
            raise ConfigError(str(error), mend=f"see the hyper-parameters of {self.title}") from error


METHODS: dict[str, Method] = {
    "sskmeans": Method("semi-supervised k-means", SSKMeansConfig, ss_kmeans),
    "nngcd": Method("NN-GCD", NNGCDConfig),
    "simgcd": Method("SimGCD", simgcd_config),
    "cms": Method("mean-shift and Ward", CMSConfig, cms),
    "kmeans": Method("k-means", KMeansConfig, kmeans),
}


def method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"no method is called {name!r}", mend=f"use one of {', '.join(METHODS)}")
    return METHODS[name]
