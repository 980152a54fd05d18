"""Every method of the task by name, and the switches of the ablation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from wildsight.continual.finetune import FineTuning, FineTuningObjective
from wildsight.continual.icarl import ICaRL, ICaRLObjective
from wildsight.continual.lora import LoRA, LoRAObjective
from wildsight.continual.lwf import LwF, LwFObjective, LwFVRObjective
from wildsight.continual.mulki import MulKI, MulKIObjective
from wildsight.continual.objective import Lesson, Objective
from wildsight.continual.settings import LearnerSettings
from wildsight.continual.snd import SnD, SnDObjective
from wildsight.continual.wise import WiseFT, WiseFTObjective
from wildsight.continual.zeroshot import ZeroShot, ZeroShotObjective
from wildsight.continual.zscl import ZSCL, ZSCLObjective
from wildsight.errors import ConfigError
from wildsight.training import TrainConfig


@dataclass(frozen=True)
class Method:
    """``config``: its dataclass; ``objective``: its loss; ``preset``: hyper-parameters that make the
    variant."""

    config: type[Any]
    objective: type[Objective]
    preset: Mapping[str, Any]

    def configure(self, hyper: Mapping[str, Any]) -> Any:
        """The hyper-parameters.

        Raises:
            ConfigError: an unknown name, or a value outside its range.
        """
        try:
            return self.config(**{**self.preset, **hyper})
        except TypeError as error:
            raise ConfigError(str(error), hint=f"see {self.config.__name__}") from error

    def objective_for(self, config: Any, lesson: Lesson) -> Objective:
        """The loss of one task."""
        return self.objective(config, lesson)


METHODS: dict[str, Method] = {
    "mulki": Method(MulKI, MulKIObjective, {}),
    "zeroshot": Method(ZeroShot, ZeroShotObjective, {}),
    "finetune": Method(FineTuning, FineTuningObjective, {}),
    "lwf": Method(LwF, LwFObjective, {}),
    "lwf-vr": Method(LwF, LwFVRObjective, {}),
    "wise-ft": Method(WiseFT, WiseFTObjective, {}),
    "icarl": Method(ICaRL, ICaRLObjective, {}),
    "zscl-star": Method(ZSCL, ZSCLObjective, {"l2": 0.0}),
    "zscl": Method(ZSCL, ZSCLObjective, {}),
    "snd": Method(SnD, SnDObjective, {}),
    "lora": Method(LoRA, LoRAObjective, {}),
}
_OFF = {"l1": 0.0, "a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "weights": "uniform", "avg_freq": 0, "alpha": 1.0}
_STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mulki-csa", {"l1": 1.0}),
    ("mulki-fd", {"a": 5.0}),
    ("mulki-intra", {"b": 0.25}),
    ("mulki-inter", {"c": 0.25, "d": 0.25}),
    ("mulki-adaptive", {"weights": "label_ce"}),
    ("mulki-averaged", {"avg_freq": None}),
)


def _ablations() -> dict[str, dict[str, Any]]:
    """The cumulative ladder up to the specified form, then the default with one thing changed."""
    presets: dict[str, dict[str, Any]] = {}
    switches = dict(_OFF)
    for name, change in _STEPS:
        switches = {**switches, **change}
        presets[name] = dict(switches)
    relations = {"b": 0.25, "c": 0.25, "d": 0.25}
    presets["mulki-specified"] = dict(relations)
    for rule in ("entropy", "discrepancy", "uniform", "zs_only", "prev_only"):
        presets[f"mulki-{rule.replace('_', '-')}"] = {"weights": rule}
    presets["mulki-relations-alone"] = {"a": 0.0, **relations}
    presets["mulki-nothing-kept"] = {"a": 0.0}
    presets["mulki-no-csa"] = {"l1": 0.0}
    presets["mulki-no-merge"] = {"alpha": 1.0}
    return presets


ABLATIONS = _ablations()


def named(name: str) -> tuple[Method, dict[str, Any]]:
    """The method of that name and the hyper-parameters of its ablation.

    Raises:
        ConfigError: no such method.
    """
    if name in METHODS:
        return METHODS[name], {}
    if name in ABLATIONS:
        return METHODS["mulki"], dict(ABLATIONS[name])
    raise ConfigError(f"no method is called {name!r}", hint=f"use one of {', '.join((*METHODS, *ABLATIONS))}")


def sorted_options(
    method: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Options by name, as hyper-parameters of ``method``, fields of `LearnerSettings` and of `TrainConfig`.

    >>> sorted_options("mulki", {"l1": 2, "teacher_view": "exact", "lr": 1e-4})
    ({'l1': 2}, {'teacher_view': 'exact'}, {'lr': 0.0001})

    Raises:
        ConfigError: no such method, or a name that is none of them.
    """
    kinds = (named(method)[0].config, LearnerSettings, TrainConfig)
    names = [[f.name for f in fields(kind) if f.name not in ("method", "backbone")] for kind in kinds]
    parts: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
    for name, value in given.items():
        place = next((part for part, known in zip(parts, names, strict=True) if name in known), None)
        if place is None:
            listed = ", ".join(dict.fromkeys(n for known in names for n in known))
            raise ConfigError(f"{method} has no option {name!r}", hint=f"use one of {listed}")
        place[name] = value
    return parts
