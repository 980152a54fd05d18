"""The table of methods: the paper, its ablations and its peers, one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from wildsight.errors import ConfigError
from wildsight.retrieval import contrastive, sake, triplet
from wildsight.retrieval.learner import Learner, Plan, RelationLearner, TermLearner
from wildsight.retrieval.ramln import RAMLNConfig


@dataclass(frozen=True)
class Method:
    """One way to train the adapter.

    Attributes:
        about: one line.
        settings: hyper-parameters that make it this method.
        build: (plan, training features, modality) -> learner; None for zero-shot.
    """

    about: str
    settings: Mapping[str, Any]
    build: Callable[[Plan, Tensor, Tensor], Learner] | None


def _relation(plan: Plan, _features: Tensor, _modality: Tensor) -> Learner:
    return RelationLearner(plan)


def _classes(plan: Plan, _features: Tensor, _modality: Tensor) -> Learner:
    return TermLearner(plan, lambda z, _: z.new_zeros(()))


METHODS: dict[str, Method] = {
    "ramln": Method("the paper: a meta-learned margin with memory", {"margin": "meta"}, _relation),
    "quadruplet": Method("the paper's loss, margin fixed", {"margin": "fixed"}, _relation),
    "margin-net": Method("a margin network without memory", {"margin": "meta", "memory": 0}, _relation),
    "joint": Method("a margin network that descends the loss itself", {"margin": "joint"}, _relation),
    "shuffled": Method("control: RAMLN's margins permuted in the batch", {"margin": "shuffled"}, _relation),
    "triplet": Method("batch-hard cross-modal triplet", {}, lambda plan, *_: triplet.build(plan)),
    "contrastive": Method("cross-modal InfoNCE", {}, lambda plan, *_: contrastive.build(plan)),
    "sake": Method("keeps the teacher's knowledge", {}, sake.build),
    "classes": Method("cross-entropy alone", {}, _classes),
    "zero-shot": Method("the tower untouched", {}, None),
}


def settings_of(name: str, given: Mapping[str, Any]) -> RAMLNConfig:
    """The hyper-parameters of a method, with the user's changes.

    Raises:
        ConfigError: no such method or hyper-parameter, or a value out of range.
    """
    if name not in METHODS:
        raise ConfigError(f"no method is called {name!r}", hint=f"use one of {', '.join(METHODS)}")
    try:
        return replace(RAMLNConfig(), **{**METHODS[name].settings, **given})
    except TypeError as error:
        raise ConfigError(str(error), hint="see RAMLNConfig") from error
