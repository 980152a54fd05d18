"""The ablation of MulKI: named changes to its hyper-parameters."""

from __future__ import annotations

from typing import Any

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
