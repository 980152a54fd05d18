"""The training loop: order and noise, the optimiser step against its equations, curves and faults."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import training_run as tiny
from wildsight.errors import ConfigError
from wildsight.training import Batch, TrainConfig, train
from wildsight.training.batches import epoch_order, micro_batches
from wildsight.training.config import learning_rate
from wildsight.training.trackers import PACKAGES

SCRIPT = Path(__file__).with_name("training_run.py")
STEPS = 5  # per epoch: 19 samples in batches of 4, the last one short

fit, furthest, same_bits, without_time = tiny.fit, tiny.furthest, tiny.same_bits, tiny.without_time


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


# ---- order, noise, workers ---------------------------------------------------------------------------


def test_order_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = epoch_order(19, 3, 2)
    torch.manual_seed(2)
    assert epoch_order(19, 3, 2) == first
    assert sorted(first) == list(range(19))
    assert first != epoch_order(19, 3, 1) != epoch_order(19, 4, 1)


def test_noise_of_a_sample_is_the_same_in_any_batch() -> None:
    one = Batch(None, torch.tensor([4, 9]), epoch=1, seed=0).normal((3, 2))
    two = Batch(None, torch.tensor([9, 7, 4]), epoch=1, seed=0).normal((3, 2))
    assert one.shape == (2, 3, 2)
    assert torch.equal(one[0], two[2]) and torch.equal(one[1], two[0])
    other = Batch(None, torch.tensor([4, 9]), epoch=2, seed=0).normal((3, 2))
    assert not torch.equal(one, other)


def test_noise_is_standard_normal() -> None:
    drawn = Batch(None, torch.arange(500), epoch=0, seed=0).normal((64,))
    assert abs(float(drawn.mean())) < 0.03
    assert abs(float(drawn.std()) - 1) < 0.03
    assert abs(float((drawn[:-1] * drawn[1:]).mean())) < 0.03  # neighbours are independent


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_shares_cover_every_sample_once_and_weigh_to_one(world: int, accumulate: int) -> None:
    order = epoch_order(11, 0, 0)
    settings = TrainConfig(batch_size=4, accumulate=accumulate)
    ranks = [micro_batches(order, settings, rank, world) for rank in range(world)]
    assert {len(r) for r in ranks} == {3}
    for number, start in enumerate(range(0, 11, 4)):
        parts = [part for rank in ranks for part in rank[number]]
        assert sum(weight for _, weight in parts) == pytest.approx(1.0)
        seen = [i for part, weight in parts if weight > 0 for i in part]
        assert sorted(seen) == sorted(order[start : start + 4])
        assert all(rank[number] for rank in ranks)  # no rank is left without a step


def test_workers_change_nothing() -> None:
    alone, curves = fit(epochs=2)
    helped, same = fit(epochs=2, workers=2)
    assert same_bits(alone, helped)
    assert without_time(curves) == without_time(same)


def test_accumulation_gives_the_gradients_of_the_whole_batch() -> None:
    assert furthest(fit(dropout=0.0)[0], fit(dropout=0.0, accumulate=3)[0]) < 1e-5


# ---- the optimiser step -------------------------------------------------------------------------------


def test_the_loop_is_adamw_written_out() -> None:
    """Slow reference: the equations of AdamW with clipping and cosine, one step at a time."""
    settings = tiny.small(epochs=2)
    weights = nn.Linear(8, 8)
    start = [p.detach().clone() for p in weights.parameters()]
    data = tiny.samples()

    def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (model(batch.data) - batch.data).pow(2).mean()}

    train(weights, data, step, settings, progress=False)
    expected = _reference(start, data, settings)
    for got, wanted in zip(weights.parameters(), expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


def _reference(start: list[Tensor], data: Tensor, c: TrainConfig) -> list[Tensor]:
    theta = [p.clone().requires_grad_() for p in start]
    m, v = [torch.zeros_like(p) for p in theta], [torch.zeros_like(p) for p in theta]
    t = 0
    for epoch in range(c.epochs):
        order = epoch_order(len(data), c.seed, epoch)
        for first in range(0, len(data), c.batch_size):
            x = data[order[first : first + c.batch_size]]
            grads = torch.autograd.grad((x @ theta[0].T + theta[1] - x).pow(2).mean(), theta)
            norm = torch.sqrt(sum(g.pow(2).sum() for g in grads))
            scale = min(1.0, float(c.clip_norm / (norm + 1e-6)))
            rate = learning_rate(c, t, c.epochs * STEPS)
            t += 1
            for i, g in enumerate(grads):
                m[i] = c.betas[0] * m[i] + (1 - c.betas[0]) * g * scale
                v[i] = c.betas[1] * v[i] + (1 - c.betas[1]) * (g * scale) ** 2
                update = m[i] / (1 - c.betas[0] ** t) / ((v[i] / (1 - c.betas[1] ** t)).sqrt() + 1e-8)
                theta[i].data = theta[i].data * (1 - rate * c.weight_decay) - rate * update
    return [p.detach() for p in theta]


def test_cosine_with_warm_up_values() -> None:
    config = TrainConfig(lr=2.0, schedule="cosine", warmup=0.2)
    rates = [learning_rate(config, s, 10) for s in range(10)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(1.0)  # half of the eight steps after the rise
    assert rates[9] == pytest.approx(2.0 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * 7 / 8)).item()))
    assert sorted(rates[2:], reverse=True) == rates[2:]


def test_constant_with_warm_up_values() -> None:
    config = TrainConfig(lr=1.0, warmup=0.4)
    assert [learning_rate(config, s, 5) for s in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_clipping_bounds_the_gradient(limit: float | None) -> None:
    norms: list[float] = []

    def watch(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    hook = register_optimizer_step_pre_hook(watch)
    try:
        fit(epochs=1, clip_norm=limit)
    finally:
        hook.remove()
    assert len(norms) == STEPS
    assert min(norms) > 1e-2 if limit is None else max(norms) <= limit


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_resumes(tmp_path: Path, precision: str) -> None:
    """Weights stay fp32; the order of precisions in one process is free; the same bits after a stop."""
    whole, history = fit(precision=precision, epochs=4)
    assert history.curve("loss")[-1] < history.curve("loss")[0]
    assert {v.dtype for v in whole.values()} == {torch.float32}
    with pytest.raises(SystemExit):
        fit(tmp_path, step=tiny.Deadly(7, signal.SIGTERM), precision=precision, epochs=4)
    assert same_bits(fit(tmp_path, precision=precision, epochs=4)[0], whole)


def test_frozen_weights_stay(tmp_path: Path) -> None:
    model = tiny.network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, tiny.samples(), tiny.denoise, tiny.small(epochs=1), folder=tmp_path, progress=False)
    assert torch.equal(model[0].weight, before)


# ---- curves, early stop, faults -----------------------------------------------------------------------


def test_curves_and_log(tmp_path: Path) -> None:
    _, history = fit(tmp_path, validate=lambda model: 0.25)
    assert [row["epoch"] for row in history.epochs] == [0, 1, 2]
    assert history.curve("validation") == [0.25] * 3
    assert len(history.curve("peak")) == 3
    assert history.seconds == pytest.approx(sum(history.curve("seconds")))
    with (tmp_path / "log.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["loss"]) for row in rows] == history.curve("loss")
    json.loads((tmp_path / "state" / "config.json").read_text())


def test_nothing_is_pickled(tmp_path: Path) -> None:
    fit(tmp_path)
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {"log.csv", "state.safetensors", "config.json", "manifest.json"}


def events_of(folder: Path, name: str) -> list[tuple[int, float]]:
    """Step and value of one scalar in the newest TensorBoard file of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    newest = max(
        (folder / "events" / "wildsight").glob("*tfevents*"), key=lambda file: file.stat().st_mtime_ns
    )
    return [(event.step, event.value) for event in EventAccumulator(str(newest)).Reload().Scalars(name)]


def test_a_tracker_has_the_curves_and_changes_no_bit(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    model, history = fit(tmp_path / "tracked", tracker="tensorboard")
    plain, _ = fit(tmp_path / "plain")
    assert same_bits(model, plain)
    assert not (tmp_path / "plain" / "events").exists()
    found = events_of(tmp_path / "tracked", "loss")
    assert [step for step, _ in found] == [0, 1, 2]
    assert [value for _, value in found] == pytest.approx(history.curve("loss"))


def test_a_run_that_goes_on_may_have_another_tracker_and_shows_all_epochs(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    patience = iter([3.0, 2.0, 1.0, 0.5, 0.25])
    _, first = fit(tmp_path, validate=lambda model: next(patience))
    _, again = fit(tmp_path, validate=lambda model: next(patience), tracker="tensorboard")
    assert again.epochs == first.epochs and again.resumed_from == first.steps
    assert [value for _, value in events_of(tmp_path, "validation")] == [3.0, 2.0, 1.0]


def test_trackers_are_those_of_accelerate() -> None:
    from accelerate.utils import LoggerType

    assert set(PACKAGES) <= set(LoggerType.list()) and {"tensorboard", "wandb", "mlflow"} <= set(PACKAGES)


def test_an_unknown_or_absent_tracker_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"no tracker is called 'tensorbord'; use one of tensorboard, wandb"
    ):
        TrainConfig(tracker="tensorbord")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'mlflow' is not installed; install it with: pip install mlflow"):
        TrainConfig(tracker="mlflow")


def test_a_tracker_that_does_not_start_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file where the folder of events belongs")
    with pytest.raises(ConfigError, match=r"the tracker 'tensorboard' does not start"):
        fit(tmp_path, tracker="tensorboard")


def test_patience_stops_and_the_stop_is_remembered(tmp_path: Path) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    _, history = fit(tmp_path, epochs=9, patience=2, validate=lambda model: next(losses))
    assert history.curve("validation") == [3.0, 2.0, 2.5, 2.0]  # an equal loss is no better
    _, again = fit(tmp_path, epochs=9, patience=2, validate=lambda model: next(losses))
    assert again.epochs == history.epochs


def test_validation_sees_the_model_in_eval_mode() -> None:
    modes: list[bool] = []
    fit(validate=lambda model: modes.append(model.training) or 1.0)
    assert modes == [False] * 3


def test_a_nan_loss_names_the_mend_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    calls = iter(range(100))

    def spoiled(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        values = tiny.denoise(model, batch)
        return {"loss": values["loss"] * (float("nan") if next(calls) == 7 else 1.0), "peak": values["peak"]}

    with pytest.raises(ConfigError, match="loss became nan at step 7; lower the lr"):
        fit(tmp_path, step=spoiled)
    weights, history = fit(tmp_path)
    assert history.resumed_from == 7
    assert same_bits(weights, fit()[0])


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A gradient that overflows under a finite loss."""
    calls = iter(range(100))

    def overflow(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        loss = tiny.denoise(model, batch)["loss"]
        if next(calls) == 7:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return {"loss": loss}

    with pytest.raises(ConfigError, match="no longer finite at step 8; lower the lr"):
        fit(tmp_path, step=overflow)
    assert fit(tmp_path, step=overflow)[1].resumed_from == 7


def test_a_nan_validation_loss_is_told() -> None:
    with pytest.raises(ConfigError, match="validation became nan"):
        fit(validate=lambda model: float("nan"))


def test_no_data_is_told() -> None:
    with pytest.raises(ConfigError, match="no sample"):
        fit(data=tiny.samples(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"accumulate": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"precision": "fp8"},
        {"schedule": "step"},
        {"warmup": 1.0},
        {"weight_decay": -1.0},
        {"betas": (0.9, 1.0)},
        {"clip_norm": 0.0},
        {"patience": 0},
        {"workers": -1},
        {"checkpoint_seconds": -1.0},
    ],
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(TrainConfig(), **wrong)


def test_progress_is_a_plain_line_off_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr("wildsight.training.progress.EVERY", 0.0)
    model = tiny.network()
    train(model, tiny.samples(), tiny.denoise, tiny.small(epochs=1), label="demo")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("demo loss ") and f"step {STEPS}/{STEPS}" in lines[-1]
    assert "s left" in lines[0]
    train(model, tiny.samples(), tiny.denoise, tiny.small(epochs=1), progress=False)
    assert capsys.readouterr().err == ""


def test_the_package_loads_without_torch() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    code = "import sys, wildsight; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
