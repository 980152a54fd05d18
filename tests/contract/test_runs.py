"""A fit depends on what it is given alone: not on the process, nor on how often it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

from contract.fit_all import digest
from contract.objects import Subject, each_object, fitted
from wildsight.errors import CheckpointError

STOPPED = 143


@pytest.fixture(scope="module")
def in_fresh_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What every object learned in each of two new processes, whose hash seeds differ."""
    folder, script = tmp_path_factory.mktemp("fresh"), Path(__file__).with_name("fit_all.py")
    files = [folder / f"{seed}.json" for seed in (1, 2)]
    for seed, file in enumerate(files, 1):
        given = {**os.environ, "PYTHONHASHSEED": str(seed)}
        subprocess.run([sys.executable, str(script), str(file)], check=True, env=given, capture_output=True)
    return [json.loads(f.read_text()) for f in files]


@each_object
def test_two_processes_learn_the_same(subject: Subject, in_fresh_processes: list[dict[str, str]]) -> None:
    one, two = (found[subject.name] for found in in_fresh_processes)
    assert one == two == digest(fitted(subject.name))


def in_a_fork(run: Callable[[], None]) -> int:
    """The exit status of a forked process that runs ``run``; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            run()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def struck(subject: Subject, out: Path, number: signal.Signals, step: int) -> Callable[[], None]:
    """A fit that gets a signal after its ``step``-th optimiser step."""

    def run() -> None:
        steps = 0

        def strike(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), number)

        register_optimizer_step_post_hook(strike)
        subject.fit(subject.make(), out=out)

    return run


@each_object
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_killed_fit_goes_on_and_ends_with_the_same_bits(subject: Subject, how: str, tmp_path: Path) -> None:
    number, out = signal.Signals[how], tmp_path / "run"
    ended = in_a_fork(struck(subject, out, number, 2))
    assert ended == (-signal.SIGKILL if how == "SIGKILL" else STOPPED)
    model = subject.fit(subject.make(), out=out)
    history = getattr(model, "history", None)
    assert history is None or history.resumed_from > 0
    assert digest(model) == digest(fitted(subject.name))


@each_object
def test_the_folder_of_another_fit_is_refused(subject: Subject, tmp_path: Path) -> None:
    out = tmp_path / "run"
    in_a_fork(struck(subject, out, signal.SIGKILL, 2))
    files = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
    assert files
    with pytest.raises(CheckpointError) as error:
        subject.fit(subject.make(seed=4), out=out)
    assert error.value.hint
    assert files == {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}


@each_object
def test_a_second_fit_is_as_the_first(subject: Subject) -> None:
    """An object that was fitted before learns what a new one learns."""
    model = subject.fit(subject.make())
    assert digest(subject.fit(model)) == digest(fitted(subject.name))
