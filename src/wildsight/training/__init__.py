"""A plain training loop over accelerate: the same function on a laptop and under ``torchrun``."""

from __future__ import annotations

from wildsight.training.batches import Batch
from wildsight.training.config import History, TrainConfig
from wildsight.training.depends import depends_on
from wildsight.training.loop import train

__all__ = ["Batch", "History", "TrainConfig", "depends_on", "train"]
