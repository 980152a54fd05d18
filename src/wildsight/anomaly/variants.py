"""The bench's names: a method, or a method with other hyper-parameters or another learning rate."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wildsight.anomaly.methods import METHODS, train_settings
from wildsight.errors import ConfigError

_FORM = re.compile(r"(?P<method>[^\[@]+)(?:\[(?P<hyper>[^\]]*)\])?(?:@(?P<rate>.+))?")


@dataclass(frozen=True)
class Variant:
    """One column of a bench.

    Attributes:
        name: as written.
        method: key of `METHODS`.
        hyper: hyper-parameters that differ from the method's own.
        lr: learning rate; None for a method that is not trained by gradient.
    """

    name: str
    method: str
    hyper: dict[str, Any]
    lr: float | None

    @property
    def stem(self) -> str:
        """The name as part of a file's name."""
        return re.sub(r"[^\w.@=-]+", "_", self.name).strip("_")

    @property
    def differs(self) -> dict[str, Any]:
        """What is not the method's own, as training settings and hyper-parameters."""
        return {**self.hyper, **({"lr": self.lr} if "@" in self.name else {})}

    def with_hyper(self, hyper: Mapping[str, Any]) -> Variant:
        """The same with these hyper-parameters under its own, where it is trained by gradient."""
        return replace(self, hyper={**hyper, **self.hyper}) if METHODS[self.method].trained else self


def variant(name: str) -> Variant:
    """Read ``METHOD``, ``METHOD[key=value,...]``, ``METHOD@rate`` or both.

    >>> variant("uniad@7e-4")
    Variant(name='uniad@7e-4', method='uniad', hyper={}, lr=0.0007)
    >>> variant("ras[gate=false,encoder_layers=0]").hyper
    {'gate': False, 'encoder_layers': 0}

    Raises:
        ConfigError: no such method, not a rate, or a rate for a method that is not trained.
    """
    found = _FORM.fullmatch(name)
    if found is None or found["method"] not in METHODS:
        what = name if found is None else found["method"]
        raise ConfigError(f"no method is called {what!r}", hint=f"use one of {', '.join(METHODS)}")
    method = found["method"]
    if METHODS[method].trained:
        return Variant(name, method, _hyper(found["hyper"], name), _rate(found["rate"], name, method))
    if found["rate"]:
        raise ConfigError(f"{method} is not trained by gradient", where=name, hint=f"write {method}")
    return Variant(name, method, _hyper(found["hyper"], name), None)


def _rate(text: str | None, name: str, method: str) -> float:
    if text is None:
        return train_settings(method).lr
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no learning rate", where=name, hint="e.g. uniad@7e-4") from error


def _hyper(text: str | None, name: str) -> dict[str, Any]:
    """``key=value,...`` with values as JSON, or as they stand."""
    hyper: dict[str, Any] = {}
    for part in filter(None, (text or "").split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{part!r} gives no value", where=name, hint="e.g. ras[gate=false]")
        try:
            hyper[key.strip()] = json.loads(value)
        except ValueError:
            hyper[key.strip()] = value.strip()
    return hyper
