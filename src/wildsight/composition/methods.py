"""The task's methods under one interface, their training recipes, and the named ablations."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from torch import Tensor, nn

from wildsight.composition.adds import Partners, stream
from wildsight.composition.compcos import CompCos, CompCosConfig
from wildsight.composition.csp import CSP, CSPConfig
from wildsight.composition.hdaoe import HDAOE, HDAOEConfig
from wildsight.composition.parts import Head, Lesson, Space
from wildsight.composition.product import Product, ProductConfig
from wildsight.composition.troika import Troika, TroikaConfig
from wildsight.composition.zeroshot import ZeroShot, ZeroShotConfig
from wildsight.errors import ConfigError
from wildsight.training import Batch, TrainConfig
from wildsight.training.batches import mix

Step = Callable[[nn.Module, Batch], dict[str, Tensor]]
COIN = 0xC014


@dataclass(frozen=True)
class Method:
    """How the recognizer drives one method.

    Attributes:
        title: name for tables.
        config: its frozen dataclass of hyper-parameters.
        head: builds the module.
        trained: False when it works as it is.
        needs_text: it cannot do without a text tower.
    """

    title: str
    config: Callable[..., Any]
    head: Callable[[Space, Any], Head]
    trained: bool = True
    needs_text: bool = False

    def configure(self, hyper: Mapping[str, Any]) -> Any:
        """The configuration with these hyper-parameters.

        Raises:
            ConfigError: an unknown one, or one outside its range.
        """
        try:
            return self.config(**{k: tuple(v) if isinstance(v, list) else v for k, v in hyper.items()})
        except TypeError as error:
            raise ConfigError(str(error), hint=f"see the hyper-parameters of {self.title}") from error


METHODS: dict[str, Method] = {
    "hdaoe": Method("HDA-OE", HDAOEConfig, HDAOE),
    "troika": Method("Troika-style", TroikaConfig, Troika),
    "csp": Method("CSP", CSPConfig, CSP, needs_text=True),
    "compcos": Method("CompCos", CompCosConfig, CompCos),
    "product": Method("visual product", ProductConfig, Product),
    "zeroshot": Method("zero-shot CLIP", ZeroShotConfig, ZeroShot, trained=False, needs_text=True),
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "hdaoe-base": {"adds": False, "sdde": None},
    "hdaoe-adds": {"sdde": None},
    "hdaoe-sdde": {"adds": False},
    "hdaoe-scd": {"sdde": "scd"},
    "hdaoe-contrast": {"adds": False, "omega": 1.0},
    "hdaoe-class": {"adds": False, "omega": 1.0, "contrast": "class"},
    "hdaoe-composed": {"comp": "composed"},
    "hdaoe-composed-base": {"comp": "composed", "adds": False, "sdde": None},
}
"""Named settings of HDA-OE: each part switched, as the bench's ablation table has them."""


def named(name: str) -> tuple[str, dict[str, Any]]:
    """The method and the hyper-parameters behind a name of `METHODS` or `ABLATIONS`.

    Raises:
        ConfigError: no such name.
    """
    if name in METHODS:
        return name, {}
    if name in ABLATIONS:
        return "hdaoe", dict(ABLATIONS[name])
    raise ConfigError(f"no method is called {name!r}", hint=f"use one of {', '.join([*METHODS, *ABLATIONS])}")


def train_settings(shared: bool) -> TrainConfig:
    """The recipe of every trained method: small steps from a shared space, larger ones from nothing."""
    return TrainConfig(
        epochs=20 if shared else 15,
        batch_size=128,
        lr=5e-4 if shared else 1e-3,
        weight_decay=1e-5 if shared else 5e-5,
        clip_norm=5.0,
    )


def training_step(config: Any, features: Tensor, labels: Tensor, seen: Tensor, epochs: int) -> Step:
    """One training step; with data synthesis where the method has it and its schedule says so.

    Args:
        config: the method's.
        features: [N, D] training features. labels: [N] ids among the seen pairs. seen: [S, 2].
        epochs: of the whole run; synthesis begins after a share of them.
    """
    if not getattr(config, "adds", False):
        return lambda head, batch: head(Lesson(*batch.data))
    partners = Partners(
        features,
        labels,
        seen,
        k=config.K,
        gamma=config.gamma,
        alpha=config.dirichlet,
        per_batch=config.lam_per_batch,
    )
    first = ceil(config.start * epochs)

    def step(head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        v, label = batch.data
        drawn = None
        if batch.epoch >= first and _coin(batch) < config.p_aug:
            drawn = partners.draw(batch.index.cpu(), stream(batch)).to(v.device)
        losses: dict[str, Tensor] = head(Lesson(v, label, drawn))
        return losses

    return step


def _coin(batch: Batch) -> float:
    """A number in [0, 1) from seed, epoch and the batch's first picture."""
    return random.Random(mix(COIN, batch.seed, batch.epoch, int(batch.index[0]))).random()
