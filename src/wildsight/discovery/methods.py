"""The task's methods under one interface: those that group frozen features, and those that train a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
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

    def settings(self, hyper: Mapping[str, Any] | Any) -> Any:
        """Its hyper-parameters.

        Args:
            hyper: values by name, ``"inf"`` for infinity; or the method's own dataclass, which is returned.

        Raises:
            ConfigError: an unknown name, or a value of another kind or outside its range.
        """
        usual = self.config()
        if is_dataclass(hyper):
            if type(hyper) is not type(usual):
                what = f"{type(hyper).__name__} is not for {self.title}"
                raise ConfigError(what, hint=f"give {type(usual).__name__}")
            return hyper
        given = {name: typed(name, value, getattr(usual, name, None)) for name, value in hyper.items()}
        try:
            return self.config(**given)
        except TypeError as error:
            raise ConfigError(str(error), hint=f"see the hyper-parameters of {self.title}") from error


def typed(name: str, value: Any, usual: Any) -> Any:
    """A value as the field that holds ``usual`` wants it."""
    if isinstance(usual, float) and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif usual is None or type(value) is type(usual):
        return value
    raise ConfigError(f"{name}={value!r}", hint=f"give a value such as {usual!r}")


def hyper_of(name: str, preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of a preset that are not the usual ones, and those given in their place.

    Args:
        name: the method.
        preset: as in `NNGCDConfig.preset`; None for none.
        given: values by name.

    Raises:
        ConfigError: a preset that there is not, or one for another method.

    >>> hyper_of("nngcd", "released:cifar-10", {"t": 0.5})
    {'l': 0.3, 't': 0.5, 'eps': 1.0, 'start': 'random', 'lr': 0.05}
    """
    if preset is None:
        return dict(given)
    if name != "nngcd":
        raise ConfigError(f"preset {preset} is not for {name}", hint="presets are for nngcd")
    usual = asdict(NNGCDConfig())
    return {k: v for k, v in asdict(NNGCDConfig.preset(preset)).items() if v != usual[k]} | dict(given)


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
        raise ConfigError(f"no method is called {name!r}", hint=f"use one of {', '.join(METHODS)}")
    return METHODS[name]
