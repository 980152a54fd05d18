"""How long and how fast a task is trained by default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wildsight.training import TrainConfig

SMALL = 20_000_000
STEPS = 1000
FEWEST = 48
NANO = TrainConfig(
    epochs=4, batch_size=32, lr=2e-4, weight_decay=0.0, schedule="cosine", warmup=0.1, clip_norm=1.0
)
PAPER = TrainConfig(epochs=1, batch_size=64, lr=1e-5, weight_decay=0.0, schedule="cosine", warmup=0.1)


def task_schedule(
    parameters: int, pictures: int, given: dict[str, Any], published: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The loop's settings of one task.

    A full-size CLIP takes batches of 64 at 1e-5, or what the task's benchmark publishes, for the fewest whole
    passes that make the benchmark's 1000 steps: 1,008 on Flowers, 1,564 on CIFAR-100, 1,876 on MNIST. A
    small one, which moves further per step and has fewer pictures, takes 4 passes at 2e-4, and as many more
    as make 48 steps: tens of pictures are not learned in fewer.

    Args:
        parameters: of the model.
        pictures: of the task.
        published: fields that the benchmark sets for a full-size CLIP; a small one does without.
        given: fields of `TrainConfig` that the caller sets; they win.

    Raises:
        ConfigError: a value outside its range.
    """
    if parameters < SMALL:
        batch = max(4, min(NANO.batch_size, pictures))
        passes = math.ceil(FEWEST * int(given.get("batch_size", batch)) / max(1, pictures))
        base = replace(NANO, batch_size=batch, epochs=max(NANO.epochs, passes))
    else:
        batch = int(given.get("batch_size", PAPER.batch_size))
        base = replace(
            PAPER, **{"epochs": max(1, math.ceil(STEPS * batch / max(1, pictures))), **(published or {})}
        )
    return replace(base, **given)


def usual_schedule(parameters: int) -> TrainConfig:
    """What a task is trained with where neither its pictures nor its benchmark change it."""
    return NANO if parameters < SMALL else PAPER


def steps_of(config: TrainConfig, pictures: int) -> int:
    """Optimiser steps of a task."""
    return config.epochs * math.ceil(pictures / config.batch_size)
