"""Options by name, as a command or a bench gets them, sorted by where they go."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wildsight.estimators.base import Estimator
from wildsight.estimators.registry import hyper_names, unknown_name


@dataclass(frozen=True)
class Options:
    """What a bench or a command was given, sorted by where it goes.

    Attributes:
        settings: of the constructor.
        training: fields of `TrainConfig`.
        fit: keywords of the task's own `fit`.
        evaluate: keywords of the task's own `evaluate`.
        hyper: hyper-parameters, for the methods that have them.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    hyper: dict[str, Any] = field(default_factory=dict)


COMMON = {
    "fit": {"self", "source", "out", "folder", "progress", "advance", "training"},
    "evaluate": {"self", "source", "split", "progress", "options"},
    "__init__": {"self", "method", "backbone", "hyper", "device", "settings"},
}


def own_options(kind: type[Estimator[Any, Any]], verb: str) -> list[str]:
    """The keywords of a verb that only this task has."""
    parameters = inspect.signature(getattr(kind, verb)).parameters
    return [name for name in parameters if name not in COMMON[verb]]


def sorted_options(
    kind: type[Estimator[Any, Any]], methods: Sequence[Any], given: Mapping[str, Any]
) -> Options:
    """Each option where it belongs: hyper-parameters first, then settings, fit, evaluation, training.

    Args:
        kind: the estimator.
        methods: those that are run, with their parameters.
        given: options by name.

    Raises:
        ConfigError: one that nothing takes, with the nearest name.
    """
    from wildsight.training import TrainConfig

    places = {
        "hyper": list(dict.fromkeys(n for m in methods for n in hyper_names(m))),
        "settings": [
            *own_options(kind, "__init__"),
            *(n for n in hyper_names(kind.settings_type) if n not in ("method", "backbone", "seed")),
        ],
        "fit": own_options(kind, "fit"),
        "evaluate": own_options(kind, "evaluate"),
        "training": [n for n in hyper_names(TrainConfig) if n != "seed"],
    }
    found: dict[str, dict[str, Any]] = {place: {} for place in places}
    for name, value in given.items():
        place = next((p for p, names in places.items() if name in names), None)
        if place is None:
            raise unknown_name("option", name, dict.fromkeys(n for names in places.values() for n in names))
        found[place][name] = value
    return Options(**found)
