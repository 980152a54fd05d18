"""A small training run in a process of its own: python training_run.py FOLDER WEIGHTS [name=value ...].

``kill=N`` and ``term=N`` send SIGKILL or SIGTERM to this process inside its N-th call of the step.
``dropout`` is the model's; every other name is a field of `TrainConfig`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wildsight.training import Batch, History, TrainConfig, train

SAMPLES, WIDTH = 19, 8
KILLS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}


def samples(count: int = SAMPLES) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(11))


def network(dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(WIDTH, 16), nn.Dropout(dropout), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, WIDTH)
    )


def denoise(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    error = model(batch.data + 0.1 * batch.normal((WIDTH,))) - batch.data
    return {"loss": error.pow(2).mean(), "peak": error.abs().amax(1).mean()}


class Deadly:
    """`denoise`, with a signal to this process inside the ``at``-th call."""

    def __init__(self, at: int, number: signal.Signals) -> None:
        self.at, self.number, self.calls = at, number, 0

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.number)
        return denoise(model, batch)


def small(**changes: object) -> TrainConfig:
    chosen = {"epochs": 3, "batch_size": 4, "lr": 1e-2, "clip_norm": 0.5, "schedule": "cosine"}
    return TrainConfig(**{**chosen, "checkpoint_seconds": 0.0, **changes})


def fit(
    folder: Path | None = None,
    *,
    step: Any = denoise,
    data: Any = None,
    dropout: float = 0.3,
    validate: Any = None,
    **changes: object,
):
    """(weights, history) of a run in this process."""
    model = network(dropout)
    data = samples() if data is None else data
    settings = small(**changes)
    history = train(model, data, step, settings, folder=folder, validate=validate, progress=False)
    return {k: v.clone() for k, v in model.state_dict().items()}, history


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[k] - b[k]).abs().max()) for k in a)


def without_time(history) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs]


def main() -> None:
    torch.set_num_threads(1)
    folder, weights, *words = sys.argv[1:]
    given = {name: float(v) if "." in v else int(v) for name, v in (word.split("=") for word in words)}
    dropout = given.pop("dropout", 0.3)
    fatal = [Deadly(int(given.pop(name)), KILLS[name]) for name in KILLS if name in given]
    model = network(dropout)
    step = fatal[0] if fatal else denoise
    history: History = train(model, samples(), step, small(**given), folder=Path(folder), progress=False)
    if int(os.environ.get("RANK", "0")) == 0:
        print(history.resumed_from)
        save_file(model.state_dict(), weights)


if __name__ == "__main__":
    main()
