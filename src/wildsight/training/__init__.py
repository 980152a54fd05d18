"""A plain training loop over accelerate: the same function on a laptop and under ``torchrun``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.training.batches import Batch
    from wildsight.training.config import History, TrainConfig
    from wildsight.training.depends import depends_on
    from wildsight.training.loop import train

__all__ = ["Batch", "History", "TrainConfig", "depends_on", "train"]
_HOMES = {
    "Batch": "batches",
    "History": "config",
    "TrainConfig": "config",
    "depends_on": "depends",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    """The public names, each loaded when it is asked for: progress needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
