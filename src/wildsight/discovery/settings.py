"""Settings of the discoverer, and the forms in which K may be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wildsight.discovery.features import ViewConfig
from wildsight.discovery.whitening import SpaceConfig
from wildsight.errors import ConfigError
from wildsight.estimators.registry import configured

T = TypeVar("T")
K = int | str | tuple[int, int]


@dataclass(frozen=True)
class DiscovererSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: ``sskmeans``, ``nngcd``, ``simgcd``, ``legogcd``, ``cms`` or ``kmeans``.
        backbone: hub id, local folder or ``nano-*``.
        k: number of groups, known classes included; ``auto`` estimates it, (low, high) within a range.
        views: how pictures are looked at.
        space: in which frozen features are grouped.
        doubt: confidence below which a picture is doubtful, in [0, 1].
        seed: of centres, initialisation, order and views.
    """

    method: str = "sskmeans"
    backbone: str = "nano-conv"
    k: K = "auto"
    views: ViewConfig = field(default_factory=ViewConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    doubt: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.doubt <= 1:
            raise ConfigError(f"doubt={self.doubt} is outside [0, 1]", hint="0.5 is the default")
        parse_k(self.k)


def parse_k(k: K) -> K:
    """``auto``, a number, or a range.

    Raises:
        ConfigError: anything else.

    >>> parse_k("12"), parse_k("10-40"), parse_k("auto")
    (12, (10, 40), 'auto')
    """
    try:
        if isinstance(k, str) and k != "auto":
            low, dash, high = k.partition("-")
            k = (int(low), int(high)) if dash else int(low)
        if isinstance(k, int) and not isinstance(k, bool) and k >= 1:
            return k
        if isinstance(k, list | tuple) and len(k) == 2 and 1 <= k[0] <= k[1]:
            return int(k[0]), int(k[1])
        if k == "auto":
            return k
    except (ValueError, TypeError):
        pass
    raise ConfigError(f"k={k!r}", hint="give auto, a number of at least 1, or a range such as 10-40")


def views_of(views: ViewConfig | Mapping[str, Any] | int | None, **fields: Any) -> ViewConfig:
    """How pictures are looked at: settings, or the number of random views, then fields given apart."""
    return _with(ViewConfig, {"views": views} if isinstance(views, int) else views, fields)


def space_of(space: SpaceConfig | Mapping[str, Any] | None, **fields: Any) -> SpaceConfig:
    """The space of the groups: settings, and fields that are given apart."""
    return _with(SpaceConfig, space, fields)


def _with(kind: type[T], value: Any, fields: Mapping[str, Any]) -> T:
    made = configured(kind, value)
    return configured(kind, {**vars(made), **{n: v for n, v in fields.items() if v is not None}})
