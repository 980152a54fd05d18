"""The loop. Order and noise come from (seed, epoch, index) alone, so a resumed run is bit-exact."""

from __future__ import annotations

import contextlib
import csv
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from wildsight.errors import ConfigError
from wildsight.files import explained
from wildsight.training.config import History, TrainConfig, learning_rate
from wildsight.training.progress import Meter
from wildsight.training.state import Progress, identity, load_state, save_state

Step = Callable[[nn.Module, "Batch"], dict[str, Tensor]]


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one process.

    Attributes:
        data: what the default collate makes of the samples.
        index: [B] positions in the data set.
        epoch: epoch number, from 0.
        seed: the run's seed.
    """

    data: Any
    index: Tensor
    epoch: int
    seed: int

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise [B, *shape], drawn per sample from (seed, epoch, index) alone."""
        drawn = []
        for index in self.index.tolist():
            generator = torch.Generator().manual_seed(mix(self.seed, self.epoch, index))
            drawn.append(torch.randn(shape, generator=generator))
        return torch.stack(drawn).to(self.index.device)


def mix(*numbers: int) -> int:
    """One 63-bit seed from several whole numbers; equal input gives equal output on every machine.

    >>> mix(0, 1, 2) == mix(0, 1, 2), mix(0, 1, 2) == mix(0, 2, 1)
    (True, False)
    """
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 % (1 << 64)
        state ^= state >> 31
    return state >> 1


class _Indexed(Dataset[tuple[int, Any]]):
    """Samples with their positions."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.data[index]


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The permutation of epoch ``epoch``."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed, epoch))).tolist()


def micro_batches(
    order: Sequence[int], config: TrainConfig, rank: int, world: int
) -> list[list[tuple[list[int], float]]]:
    """Per optimiser step, this rank's micro-batches and the weight of each one's mean loss.

    The weights make the sum over ranks and micro-batches the mean over the global batch, also when the
    last batch is short.
    """
    steps = []
    for start in range(0, len(order), config.batch_size):
        whole = list(order[start : start + config.batch_size])
        mine = whole[rank::world]
        size = max(1, math.ceil(len(mine) / config.accumulate))
        parts = [mine[i : i + size] for i in range(0, len(mine), size)]
        filler = [] if parts else [(whole[:1], 0.0)]
        steps.append(filler + [(part, len(part) / len(whole)) for part in parts])
    return steps


def train(
    model: nn.Module,
    data: Any,
    step: Step,
    config: TrainConfig,
    *,
    folder: Path | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    progress: bool = True,
    label: str = "fit",
) -> History:
    """Train ``model`` in place.

    Args:
        model: the module; moved to the device at hand.
        data: map-style data set.
        step: (model, batch) -> logged scalars with ``loss``, the mean over the batch.
        config: settings.
        folder: where the state and ``log.csv`` are kept; a killed run with the same folder goes on
            there and ends with the same bits.
        validate: loss after each epoch, for ``config.patience``.
        progress: show progress and the time left.
        label: name in the progress line.

    Returns:
        The curves.

    Raises:
        ConfigError: the loss became NaN.
        CheckpointError: ``folder`` holds a run with other settings, or is damaged.
    """
    run = _Run(model, data, step, config, folder, validate)
    with _on_sigterm(run), Meter(label, run.total, enabled=progress and run.main) as meter:
        run.go(meter)
    return run.history()


@contextlib.contextmanager
def _on_sigterm(run: _Run) -> Iterator[None]:
    """Ask the run to save and leave when the process is told to end."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stopping", True))
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        step: Step,
        config: TrainConfig,
        folder: Path | None,
        validate: Callable[[nn.Module], float] | None,
    ) -> None:
        mixed = "no" if config.precision == "fp32" else config.precision
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=mixed)
        self.config, self.step_fn, self.folder, self.validate = config, step, folder, validate
        self.data, self.main, self.stopping = _Indexed(data), self.accelerator.is_main_process, False
        self.raw = model.to(self.accelerator.device)
        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.identity = identity(config, len(self.data), model)
        loaded = load_state(folder, model, self.optimizer, self.identity) if folder else None
        self.at = loaded or Progress()
        self.resumed_from, self.saved = self.at.step, time.monotonic()
        self.steps_per_epoch = math.ceil(len(self.data) / config.batch_size)
        self.total = self.steps_per_epoch * config.epochs
        self.model, self.optim = self.accelerator.prepare(model, self.optimizer)

    def history(self) -> History:
        return History(self.at.rows, self.resumed_from)

    def go(self, meter: Meter) -> None:
        meter.update(self.at.step)
        while not self.at.finished and self.at.epoch < self.config.epochs:
            self._epoch(meter)
        self.raw.eval()
        if not self.at.finished:
            self.at.finished = True
            self._save()

    def _epoch(self, meter: Meter) -> None:
        order = epoch_order(len(self.data), self.config.seed, self.at.epoch)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        plan = micro_batches(order, self.config, rank, world)[self.at.step % self.steps_per_epoch :]
        flat = [part for parts in plan for part, _ in parts]
        workers = self.config.workers
        loader = iter(DataLoader(self.data, batch_sampler=flat, num_workers=workers, collate_fn=_collate))
        self.model.train()
        for parts in plan:
            begin = time.perf_counter()
            logged = self._optimise([(next(loader), weight) for _, weight in parts])
            self._count(logged, time.perf_counter() - begin)
            meter.update(self.at.step, logged["loss"])
            if self.stopping:
                self._save()
                raise SystemExit(143)
            if time.monotonic() - self.saved >= self.config.checkpoint_seconds and self._mid_epoch():
                self._save()
        self._end_epoch()

    def _mid_epoch(self) -> bool:
        return self.at.step % self.steps_per_epoch != 0

    def _optimise(self, parts: list[tuple[tuple[Tensor, Any], float]]) -> dict[str, float]:
        """One optimiser step; returns the logged scalars, averaged over the global batch."""
        rate = learning_rate(self.config, self.at.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(mix(self.config.seed, self.at.step, self.accelerator.process_index, 7))
        sums: dict[str, Tensor] = {}
        world = self.accelerator.num_processes
        for number, ((index, data), weight) in enumerate(parts):
            last = number == len(parts) - 1
            quiet = contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)
            with quiet:
                values = self._forward(index, data)
                self.accelerator.backward(values["loss"] * (weight * world))
            for name, value in values.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach() * weight
        logged = {k: float(self.accelerator.reduce(v, "sum")) for k, v in sums.items()}
        if not math.isfinite(logged["loss"]):
            raise ConfigError(f"the loss became {logged['loss']} at step {self.at.step}", mend="lower the lr")
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optim.step()
        self.optim.zero_grad()
        return logged

    def _forward(self, index: Tensor, data: Any) -> dict[str, Tensor]:
        device = self.accelerator.device
        batch = Batch(_to(data, device), index.to(device), self.at.epoch, self.config.seed)
        with self.accelerator.autocast():
            return self.step_fn(self.model, batch)

    def _count(self, logged: dict[str, float], seconds: float) -> None:
        self.at.step += 1
        self.at.seconds += seconds
        for name, value in logged.items():
            self.at.sums[name] = self.at.sums.get(name, 0.0) + value

    def _end_epoch(self) -> None:
        means = {k: v / self.steps_per_epoch for k, v in self.at.sums.items()}
        rate = learning_rate(self.config, self.at.step - 1, self.total)
        row = {"epoch": float(self.at.epoch), "lr": rate, "seconds": self.at.seconds, **means}
        if self.validate is not None:
            self.raw.eval()
            row["validation"] = self.validate(self.raw)
            self._patience(row["validation"])
        self.at.rows.append(row)
        self.at.epoch, self.at.sums, self.at.seconds = self.at.epoch + 1, {}, 0.0
        last = self.at.epoch == self.config.epochs or self.at.finished
        self.at.finished = last
        if last or time.monotonic() - self.saved >= self.config.checkpoint_seconds:
            self._save()

    def _patience(self, value: float) -> None:
        if self.at.best is None or value < self.at.best:
            self.at.best, self.at.stale = value, 0
            return
        self.at.stale += 1
        self.at.finished = self.config.patience is not None and self.at.stale >= self.config.patience

    def _save(self) -> None:
        if self.folder is not None and self.main:
            save_state(self.folder, self.raw, self.optimizer, self.at, self.identity)
            self._log(self.folder / "log.csv")
        self.saved = time.monotonic()

    def _log(self, file: Path) -> None:
        if self.at.rows:
            with explained(file), file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(self.at.rows[0]))
                writer.writeheader()
                writer.writerows(self.at.rows)


def _collate(samples: list[tuple[int, Any]]) -> tuple[Tensor, Any]:
    return torch.tensor([i for i, _ in samples]), default_collate([s for _, s in samples])


def _to(data: Any, device: torch.device) -> Any:
    if isinstance(data, Tensor):
        return data.to(device)
    if isinstance(data, dict):
        return {k: _to(v, device) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(_to(v, device) for v in data)
    return data
