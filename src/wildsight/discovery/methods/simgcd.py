"""SimGCD, the peer that NN-GCD builds on.

Paper: Parametric Classification for GCD: A Baseline Study (ICCV 2023, arXiv 2211.11727).
Equations: those of `nngcd` without the last activation, with w = 1, t = 1, two random views, the detached
student as its own teacher, and no sparse regularisation.
Differences: those of `nngcd`, numbers 5 to 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wildsight.discovery.methods import METHODS
from wildsight.discovery.methods.nngcd import NNGCD


@METHODS.register("simgcd")
@dataclass(frozen=True)
class SimGCD(NNGCD):
    """SimGCD: NN-GCD's hyper-parameters with other defaults."""

    title = "SimGCD"

    t: float = 1.0
    """Temperature of InfoNCE, > 0."""
    sigma: float = float("inf")
    """Infinity is InfoNCE."""
    rho: float = 0.0
    """No sparse regularisation."""
    act: str = "none"
    """No last activation."""
    teacher: str = "student"
    """The student's detached output."""
    second_view: str = "random"
    """Two random views."""


SETTINGS: dict[str, Any] = {
    name: getattr(SimGCD(), name) for name in ("act", "sigma", "t", "second_view", "teacher", "rho")
}

ABLATION: dict[str, dict[str, Any]] = {
    "simgcd": SETTINGS,
    "+ whole second view, EMA": {**SETTINGS, "second_view": "whole", "teacher": "ema"},
    "+ GELU, t = 0.5": {"rho": 0.0, "sigma": float("inf")},
    "+ weights (NMF NCE)": {"rho": 0.0},
    "+ HSR (NN-GCD)": {},
    "NN-GCD, act relu": {"act": "relu"},
    "NN-GCD, act rep_relu": {"act": "rep_relu"},
    "NN-GCD, act none": {"act": "none"},
    "NN-GCD, HSR on features": {"hsr_target": "features", "rho": 1e-3},
    "NN-GCD, HSR on co-occurrence": {"hsr_target": "cooccurrence", "rho": 1e-2},
    "NN-GCD, beta 0": {"beta": 0.0},
    "NN-GCD, beta 1": {"beta": 1.0},
    "NN-GCD, sigma 0.25": {"sigma": 0.25},
    "NN-GCD, t 0.2": {"t": 0.2},
    "NN-GCD, t 1": {"t": 1.0},
    "NN-GCD, no self-distillation": {"w_cluster": 0.0},
    "NN-GCD, no mean entropy": {"eps": 0.0},
    "NN-GCD, no NMF NCE": {"w_nce": 0.0},
    "NN-GCD, no SupCon": {"w_supcon": 0.0},
    "SimGCD, random classifier": {**SETTINGS, "start": "random"},
    "NN-GCD, random classifier": {"start": "random"},
}
"""The rungs from SimGCD to NN-GCD and the switches beside them, as changes to `NNGCD`."""
METHODS.add_presets("nngcd", ABLATION)
