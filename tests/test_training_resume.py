"""A training run that is stopped goes on with the same bits; two processes give the weights of one."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import training_run as tiny
from wildsight.errors import CheckpointError
from wildsight.training import Batch, depends_on, train
from wildsight.training.depends import DATA

SCRIPT = Path(__file__).with_name("training_run.py")
STEPS = 5  # per epoch: 19 samples in batches of 4, the last one short

fit, furthest, same_bits, without_time = tiny.fit, tiny.furthest, tiny.same_bits, tiny.without_time


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def launch(folder: Path, *words: str, processes: int = 0) -> tuple[int, str]:
    """Exit status and output of the script, alone or under ``torchrun``.

    The operating system chooses the rendezvous's port, and its name is this call's own: runs side by side
    do not meet, whatever a launcher around the tests has put in the environment.
    """
    meeting = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--rdzv-id={uuid.uuid4()}"]
    many = ["-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}", *meeting]
    command = [sys.executable, *(many if processes else []), str(SCRIPT)]
    source = Path(__file__).resolve().parents[1] / "src"
    paths = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    others = ("MASTER_", "RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "TORCHELASTIC_", "PET_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    environment = {**kept, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    arguments = [*command, str(folder), str(folder.with_suffix(".weights")), *words]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=240)
    return (
        done.returncode,
        f"{done.stderr}\n{shlex.join(arguments)} ended with {done.returncode}\n{done.stdout}",
    )


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder.with_suffix(".weights"))


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS])
def test_sigterm_ends_the_step_saves_and_the_rerun_has_the_same_bits(tmp_path: Path, at: int) -> None:
    """Also on the last step of an epoch and of the run."""
    whole, curves = fit()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path / "run", step=tiny.Deadly(at, signal.SIGTERM), checkpoint_seconds=60.0)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    weights, history = fit(tmp_path / "run", checkpoint_seconds=60.0)
    assert history.resumed_from == at
    assert same_bits(weights, whole)
    assert without_time(history) == without_time(curves)


@pytest.mark.slow
def test_kill_9_loses_one_step_and_no_bit(tmp_path: Path) -> None:
    at = STEPS + 3
    status, output = launch(tmp_path / "run", f"kill={at}")
    assert status == -signal.SIGKILL, output
    status, output = launch(tmp_path / "run")
    assert status == 0, output
    assert output.split()[-1] == str(at - 1)
    assert same_bits(weights_of(tmp_path / "run"), fit()[0])


@pytest.mark.slow
def test_sigterm_ends_a_process_with_143(tmp_path: Path) -> None:
    assert launch(tmp_path / "run", "term=7")[0] == 143
    status, output = launch(tmp_path / "run")
    assert (status, output.split()[-1]) == (0, "7"), output
    assert same_bits(weights_of(tmp_path / "run"), fit()[0])


def test_a_finished_run_is_recognised(tmp_path: Path) -> None:
    weights, first = fit(tmp_path)

    def never(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise RuntimeError("trained again")

    again, second = fit(tmp_path, step=never)
    assert same_bits(weights, again)
    assert second.epochs == first.epochs
    assert second.resumed_from == 3 * STEPS


@pytest.mark.parametrize(
    ("changes", "name"), [({"lr": 1e-3}, "lr"), ({"seed": 1}, "seed"), ({"epochs": 4}, "epochs")]
)
def test_other_settings_are_refused_by_name(tmp_path: Path, changes: dict, name: str) -> None:
    fit(tmp_path)
    with pytest.raises(CheckpointError, match=f"{name}="):
        fit(tmp_path, **changes)


def test_other_data_or_another_model_is_refused(tmp_path: Path) -> None:
    fit(tmp_path)
    with pytest.raises(CheckpointError, match="samples=19, not 18"):
        fit(tmp_path, data=tiny.samples(18))
    with pytest.raises(CheckpointError, match="shapes="):
        train(nn.Linear(8, 8), tiny.samples(), tiny.denoise, tiny.small(), folder=tmp_path, progress=False)


def test_what_the_caller_says_of_the_run_is_part_of_it(tmp_path: Path) -> None:
    def told(**extra: object) -> None:
        options = {"folder": tmp_path, "progress": False, "extra": extra}
        train(tiny.network(), tiny.samples(), tiny.denoise, tiny.small(), **options)

    told(method="lwf", sizes=(1, 2), lr="own")
    told(method="lwf", sizes=(1, 2), lr="own")
    with pytest.raises(CheckpointError, match="method=lwf, not finetune"):
        told(method="finetune", sizes=(1, 2), lr="own")
    with pytest.raises(CheckpointError, match="extra lr=own, not None"):
        fit(tmp_path)


@dataclass(frozen=True)
class Told:
    """A nested setting, one without an end, and one that changes nothing."""

    inner: dict[str, int] = field(default_factory=lambda: {"side": 3})
    limit: float = math.inf
    memory: int = 1


def test_what_a_fit_depends_on_knows_files_wherever_they_lie(tmp_path: Path) -> None:
    def told(root: Path, learned: Any, **hyper: object) -> dict[str, Any]:
        return depends_on(Told(), hyper, learned, root, backbone="ab" * 32, without=("memory",))

    for name, pixel in (("one", 0), ("two", 0), ("three", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bmp").write_bytes(bytes(5000) + bytes([pixel] * 5000))
    files = [tmp_path / n / "a.bmp" for n in ("one", "two", "three")]
    one, two, three = (told(f.parent, [{"x": f, "y": np.eye(2)}]) for f in files)
    assert one == two and {k for k in one if one[k] != three[k]} == {DATA}  # of one size, other pixels
    assert one["inner.side"] == 3 and one["limit"] == "inf" and "memory" not in one
    assert len(one["backbone"]) == 16 and json.loads(json.dumps(one)) == one
    moved, gone = told(tmp_path, [files[0]]), told(tmp_path, [tmp_path / "nothing.bmp"])
    assert (
        len({d[DATA] for d in (one, moved, gone, told(tmp_path, [np.eye(2)]), told(tmp_path, [np.eye(3)]))})
        == 5
    )
    assert told(tmp_path, [], limit=2.0)["hyper limit"] == 2.0


def test_workers_may_change_between_runs(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, step=tiny.Deadly(3, signal.SIGTERM))
    assert same_bits(fit(tmp_path, workers=1)[0], fit()[0])


@pytest.mark.parametrize("name", ["state.safetensors", "config.json", "manifest.json"])
def test_a_damaged_state_is_refused(tmp_path: Path, name: str) -> None:
    fit(tmp_path)
    file = tmp_path / "state" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        fit(tmp_path)


def test_a_truncated_state_is_refused(tmp_path: Path) -> None:
    fit(tmp_path)
    file = tmp_path / "state" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="SHA-256"):
        fit(tmp_path)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    """19 samples in batches of 4: the shares of the last batch differ, and so do the micro-batches."""
    words = ("dropout=0.0", "accumulate=2", "checkpoint_seconds=60")
    status, output = launch(tmp_path / "two", *words, processes=2)
    assert status == 0, output
    assert furthest(weights_of(tmp_path / "two"), fit(dropout=0.0, accumulate=2)[0]) < 1e-6


@pytest.mark.slow
def test_sigterm_of_one_rank_stops_both_and_the_rerun_goes_on(tmp_path: Path) -> None:
    words = ("dropout=0.0", "checkpoint_seconds=60")
    status, output = launch(tmp_path / "two", *words, "term=7", processes=2)
    assert status != 0, output
    status, output = launch(tmp_path / "two", *words)
    assert (status, output.split()[-1]) == (0, "7"), output
    assert furthest(weights_of(tmp_path / "two"), fit(dropout=0.0)[0]) < 1e-6
