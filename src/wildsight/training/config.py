"""Settings of a training run, and what it leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wildsight.errors import ConfigError
from wildsight.training.trackers import check_tracker

PRECISIONS = ("fp32", "bf16", "fp16")
SCHEDULES = ("constant", "cosine", "drop")
DROP_AT, DROP_TO = 10 / 16, 0.1
OPTIMIZERS = ("adamw", "sgd")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda v: v >= 1, "give at least 1"),
    "batch_size": (lambda v: v >= 1, "give at least 1"),
    "accumulate": (lambda v: v >= 1, "give at least 1"),
    "lr": (lambda v: 0 < v < math.inf, "give a positive rate such as 1e-3"),
    "weight_decay": (lambda v: 0 <= v < math.inf, "give 0 or more"),
    "betas": (lambda v: len(v) == 2 and all(0 <= b < 1 for b in v), "give two numbers in [0, 1)"),
    "optimizer": (lambda v: v in OPTIMIZERS, f"use one of {', '.join(OPTIMIZERS)}"),
    "momentum": (lambda v: 0 <= v < 1, "give a number in [0, 1)"),
    "clip_norm": (lambda v: v is None or v > 0, "give a positive norm or None"),
    "precision": (lambda v: v in PRECISIONS, f"use one of {', '.join(PRECISIONS)}"),
    "schedule": (lambda v: v in SCHEDULES, f"use one of {', '.join(SCHEDULES)}"),
    "warmup": (lambda v: 0 <= v < 1, "give a share of the steps, in [0, 1)"),
    "patience": (lambda v: v is None or v >= 1, "give at least 1, or None"),
    "workers": (lambda v: v >= 0, "give 0 or more"),
    "checkpoint_seconds": (lambda v: v >= 0, "give 0 or more"),
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        epochs: passes over the data, >= 1.
        batch_size: samples per optimiser step over all processes, >= 1.
        lr: peak learning rate, > 0.
        weight_decay: of the optimiser, >= 0.
        betas: of AdamW, each in [0, 1).
        clip_norm: limit of the gradient's norm, > 0, or None.
        schedule: ``constant``, ``cosine`` (to zero) or ``drop`` (to a tenth after 10/16 of the steps).
        warmup: share of the steps with a linear rise, in [0, 1).
        seed: of order, noise and dropout.
        precision: ``fp32``, ``bf16`` or ``fp16`` (mixed; weights stay fp32).
        accumulate: micro-batches per step, >= 1.
        workers: loader processes; changes nothing but speed.
        patience: epochs without a better validation loss before stopping, or None.
        checkpoint_seconds: time between saved states, seconds; 0 saves every step.
        optimizer: ``adamw`` or ``sgd``.
        momentum: of SGD, in [0, 1).
        tracker: where the curves go beside ``log.csv``: ``tensorboard``, ``wandb``, ``mlflow`` or another one
            that `accelerate` knows, or None; changes nothing that is learned.
    """

    epochs: int = 30
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None
    schedule: str = "constant"
    warmup: float = 0.0
    seed: int = 0
    precision: str = "fp32"
    accumulate: int = 1
    workers: int = 0
    patience: int | None = None
    checkpoint_seconds: float = 60.0
    optimizer: str = "adamw"
    momentum: float = 0.9
    tracker: str | None = None

    def __post_init__(self) -> None:
        for name, (fits, hint) in _RANGES.items():
            value = getattr(self, name)
            if not fits(value):
                raise ConfigError(f"{name}={value!r} is outside its range", hint=hint)
        if self.tracker is not None:
            check_tracker(self.tracker)


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Learning rate of optimiser step ``step`` (from 0) of ``total``.

    >>> [round(learning_rate(TrainConfig(lr=1.0, schedule="cosine"), s, 4), 3) for s in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    rise = round(config.warmup * total)
    if step < rise:
        return config.lr * (step + 1) / rise
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "drop":
        return config.lr * (DROP_TO if step >= DROP_AT * total else 1.0)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


@dataclass
class History:
    """What a run leaves.

    Attributes:
        epochs: one mapping per epoch: ``epoch``, ``lr``, ``seconds``, the mean of each logged scalar.
        resumed_from: optimiser step that this process started at; 0 for a fresh run.
        steps: optimiser steps over all resumptions.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    resumed_from: int = 0
    steps: int = 0

    def curve(self, name: str) -> list[float]:
        """One logged scalar over the epochs."""
        return [row[name] for row in self.epochs if name in row]

    @property
    def seconds(self) -> float:
        """Time spent training, over all resumptions."""
        return sum(row["seconds"] for row in self.epochs)
