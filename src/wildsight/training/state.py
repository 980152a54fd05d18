"""The state of a training run on disk: safetensors and JSON with a SHA-256 manifest, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from wildsight.errors import CheckpointError
from wildsight.files import digest_of, load_checkpoint, recover_folder, save_checkpoint
from wildsight.training.config import TrainConfig
from wildsight.training.depends import DATA

FOLDER = "state"
UNLEARNED = ("workers", "checkpoint_seconds", "tracker")
"""Settings that change nothing that is learned."""
VAGUE = ("samples", "shapes", DATA)
"""What differs along with a setting that says more; named where nothing else differs."""


@dataclass
class Progress:
    """Where a run stands: everything that is not a tensor.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done.
        seconds: training time of the unfinished epoch.
        sums: sums of the logged scalars over the unfinished epoch.
        rows: the finished epochs' rows.
        best: best validation loss, and ``stale``: epochs since.
        finished: True when nothing is left to do.
        scaler: state of the fp16 gradient scaler; empty otherwise.
    """

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    stale: int = 0
    finished: bool = False
    scaler: dict[str, Any] = field(default_factory=dict)


def identity(
    config: TrainConfig, samples: int, model: nn.Module, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What must be equal for a run to go on from a saved state; ``extra`` as in `train`."""
    settings = {k: v for k, v in asdict(config).items() if k not in UNLEARNED}
    shapes = digest_of({k: list(v.shape) for k, v in model.state_dict().items()})
    own = {**settings, "betas": list(config.betas), "samples": samples, "shapes": shapes}
    further = json.loads(json.dumps(dict(extra or {})))  # as it will be read back
    return {**own, **{name if name not in own else f"extra {name}": v for name, v in further.items()}}


def save_state(
    folder: Path, model: nn.Module, optimizer: Optimizer, progress: Progress, ident: dict[str, Any]
) -> None:
    """Write the state, whole or not at all."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    save_checkpoint(folder / FOLDER, tensors, {"identity": ident, "progress": asdict(progress)}, name="state")


def load_state(
    folder: Path, model: nn.Module, optimizer: Optimizer, ident: dict[str, Any]
) -> Progress | None:
    """Put a saved state into ``model`` and ``optimizer``; None when there is none.

    Raises:
        CheckpointError: damaged, or saved with other settings or data.
    """
    if not recover_folder(folder / FOLDER).is_dir():
        return None
    tensors, saved = load_checkpoint(folder / FOLDER, name="state")
    _same(saved["identity"], ident, folder)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return Progress(**saved["progress"])


def _same(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    different = [k for k in {*saved, *now} if saved.get(k) != now.get(k)]
    if different:
        name = min(different, key=lambda k: (k in VAGUE, k))
        raise CheckpointError(
            f"holds a run with {name}={saved.get(name)}, not {now.get(name)}",
            where=folder,
            hint="use the same settings, or another folder",
        )
