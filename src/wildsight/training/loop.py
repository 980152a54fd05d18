"""The loop. Order and noise come from (seed, epoch, index) alone, so a resumed run is bit-exact."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wildsight.devices import resolve_device
from wildsight.errors import ConfigError
from wildsight.images import declare_scale, declared_scale
from wildsight.results import write_csv
from wildsight.training.batches import Batch, Indexed, collate, epoch_order, micro_batches, mix, to_device
from wildsight.training.config import History, TrainConfig, learning_rate
from wildsight.training.progress import Meter
from wildsight.training.state import Progress, identity, load_state, save_state
from wildsight.training.trackers import log_epoch, tracked, tracking_options

Step = Callable[[nn.Module, Batch], dict[str, Tensor]]
STOPPED = 128 + signal.SIGTERM


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
    extra: Mapping[str, Any] | None = None,
    device: str | int | torch.device | None = "auto",
) -> History:
    """Train ``model`` in place.

    SIGTERM lets the optimiser step in hand end, saves the state and raises ``SystemExit(143)``.

    Args:
        model: the module; moved to ``device`` and left there.
        data: map-style data set.
        step: (model, batch) -> logged scalars with ``loss``, the mean over the batch.
        config: settings.
        folder: where the state, ``log.csv`` and the tracker's files are kept; a killed run with the same
            folder goes on there and ends with the same bits.
        validate: loss after each epoch, for ``config.patience``.
        progress: show progress and the time left.
        label: name in the progress line.
        extra: what the run depends on beyond ``config``, the number of samples and the model's shapes: its
            method, hyper-parameters, a digest of its data (JSON values by name). A state in ``folder`` that
            was saved with another ``extra`` is refused.
        device: where it runs; see `wildsight.devices.resolve_device`.

    Returns:
        The curves.

    Raises:
        ConfigError: no data, no such device, a tracker that does not start, or a logged scalar, the
            validation loss or a weight became NaN or infinite; the last good state stays in ``folder``.
        CheckpointError: ``folder`` holds a run with other settings, or is damaged.
        DataError: ``folder`` cannot be written.
    """
    run = _Run(model, data, step, config, folder, validate, extra, resolve_device(device))
    with (
        _on_sigterm(run),
        tracked(run.accelerator, config.tracker, run.identity, run.at.rows),
        Meter(label, run.total, enabled=progress and run.main) as meter,
    ):
        run.go(meter)
    return History(run.at.rows, run.resumed_from, run.at.step)


@contextlib.contextmanager
def _on_sigterm(run: _Run) -> Iterator[None]:
    """Ask the run to save and leave when the process is told to end."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stopping", True))
    except ValueError:  # not the main thread: signals are someone else's
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
        extra: Mapping[str, Any] | None,
        device: torch.device,
    ) -> None:
        if len(data) == 0:
            raise ConfigError("no sample to train on", hint="give at least one")
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",
            **tracking_options(config.tracker, folder),
        )
        self.config, self.step_fn, self.folder, self.validate = config, step, folder, validate
        self.data, self.main, self.stopping = Indexed(data), self.accelerator.is_main_process, False
        self.device = self.accelerator.device if self.accelerator.num_processes > 1 else device
        self.raw = model.to(self.device)
        self.optimizer = _optimizer(model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.identity = identity(config, len(data), model, extra)
        loaded = load_state(folder, model, self.optimizer, self.identity) if folder else None
        self.at = loaded or Progress()
        if self.at.scaler:
            self.scaler.load_state_dict(self.at.scaler)
        self.resumed_from, self.saved = self.at.step, time.monotonic()
        self.steps_per_epoch = math.ceil(len(data) / config.batch_size)
        self.total = self.steps_per_epoch * config.epochs
        self.model = self.accelerator.prepare(model, device_placement=[False])

    def go(self, meter: Meter) -> None:
        meter.update(self.at.step)
        while not self.at.finished:
            self._epoch(meter)
        self.raw.eval()
        self.accelerator.wait_for_everyone()
        if self.stopping:
            raise SystemExit(STOPPED)

    def _epoch(self, meter: Meter) -> None:
        order = epoch_order(len(self.data), self.config.seed, self.at.epoch)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        done = self.at.step - self.at.epoch * self.steps_per_epoch
        plan = micro_batches(order, self.config, rank, world)[done:]
        flat = [part for parts in plan for part, _ in parts]
        workers = self.config.workers
        begin_worker = functools.partial(_begin_worker, declared_scale())
        loader = iter(
            DataLoader(
                self.data,
                batch_sampler=flat,
                num_workers=workers,
                collate_fn=collate,
                worker_init_fn=begin_worker,
            )
        )
        self.model.train()
        for parts in plan:
            begin = time.perf_counter()
            logged, stop = self._optimise([(next(loader), weight) for _, weight in parts])
            self._count(logged, time.perf_counter() - begin)
            meter.update(self.at.step, logged["loss"])
            if stop:
                self._save()
                self.accelerator.wait_for_everyone()
                raise SystemExit(STOPPED)
            if self._due():
                self._save()
        self._end_epoch()

    def _due(self) -> bool:
        return time.monotonic() - self.saved >= self.config.checkpoint_seconds

    def _optimise(self, parts: list[tuple[tuple[Tensor, Any], float]]) -> tuple[dict[str, float], bool]:
        """One optimiser step; returns the logged scalars over the global batch, and whether to stop."""
        rate = learning_rate(self.config, self.at.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        _seed(mix(self.config.seed, self.at.step, self.accelerator.process_index, 7))
        logged, stop = self._shared(self._backward(parts))
        for name, value in logged.items():
            _finite(name, value, self.at.step)
        self.scaler.unscale_(self.optimizer)
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return logged, stop

    def _backward(self, parts: list[tuple[tuple[Tensor, Any], float]]) -> dict[str, Tensor]:
        """Gradients of one optimiser step; returns this rank's share of the logged scalars."""
        sums: dict[str, Tensor] = {}
        world = self.accelerator.num_processes
        for number, ((index, data), weight) in enumerate(parts, start=1):
            last = number == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                values = self._forward(index, data)
                self.accelerator.backward(self.scaler.scale(values["loss"] * (weight * world)))
            for name, value in values.items():
                share = value.detach().double() * weight
                sums[name] = sums[name] + share if name in sums else share
        return sums

    def _forward(self, index: Tensor, data: Any) -> dict[str, Tensor]:
        device, precision = self.device, self.config.precision
        batch = Batch(to_device(data, device), index.to(device), self.at.epoch, self.config.seed)
        if precision == "fp32":
            return self.step_fn(self.model, batch)
        with torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16):
            return self.step_fn(self.model, batch)

    def _shared(self, sums: dict[str, Tensor]) -> tuple[dict[str, float], bool]:
        """Sum the scalars over the processes, and agree on stopping, in one exchange."""
        packed = torch.stack([*sums.values(), next(iter(sums.values())).new_tensor(float(self.stopping))])
        *values, stop = self.accelerator.reduce(packed, "sum").tolist()
        return dict(zip(sums, values, strict=True)), stop > 0

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
            row["validation"] = self._validated(self.validate)
        self.at.rows.append(row)
        log_epoch(self.accelerator, row)
        self.at.epoch, self.at.sums, self.at.seconds = self.at.epoch + 1, {}, 0.0
        self.at.finished = self.at.epoch == self.config.epochs or self._stale(row.get("validation"))
        if self.at.finished or self._due():
            self._save()

    def _validated(self, validate: Callable[[nn.Module], float]) -> float:
        """The validation loss, averaged over the processes so that all of them stop together."""
        self.raw.eval()
        mine = torch.tensor(validate(self.raw), dtype=torch.float64)
        value = float(self.accelerator.reduce(mine.to(self.accelerator.device), "mean"))
        _finite("validation", value, self.at.step)
        return value

    def _stale(self, value: float | None) -> bool:
        """Count the epochs without a better validation loss; True when patience is at its end."""
        if value is None:
            return False
        better = self.at.best is None or value < self.at.best
        self.at.best, self.at.stale = (value, 0) if better else (self.at.best, self.at.stale + 1)
        return self.config.patience is not None and self.at.stale >= self.config.patience

    def _save(self) -> None:
        for name, weight in self.raw.named_parameters():
            if not bool(weight.isfinite().all()):
                raise ConfigError(f"{name} is no longer finite at step {self.at.step}", hint="lower the lr")
        if self.folder is not None and self.main:
            self.at.scaler = self.scaler.state_dict()
            save_state(self.folder, self.raw, self.optimizer, self.at, self.identity)
            if self.at.rows:
                write_csv(self.folder / "log.csv", self.at.rows)
        self.saved = time.monotonic()


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser, one group per ``lr_scale`` that parameters carry as an attribute (1 where none)."""
    scaled: dict[float, list[Tensor]] = {}
    for weight in (p for p in model.parameters() if p.requires_grad):
        scaled.setdefault(float(getattr(weight, "lr_scale", 1.0)), []).append(weight)
    weights = [{"params": many, "scale": scale} for scale, many in scaled.items()]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(
        weights,
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def _begin_worker(full_scale: float | None, _worker: int) -> None:
    """A loader process reads pictures as its parent does, however it was started."""
    declare_scale(full_scale)


def _seed(seed: int) -> None:
    """`torch.manual_seed` for the devices at hand, without its stack trace for each absent one."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def _finite(name: str, value: float, step: int) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{name} became {value} at step {step}", hint="lower the lr")
