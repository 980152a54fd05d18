"""The command: light to start, one sentence for a user's mistake."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import wildsight
from wildsight import cli
from wildsight.cli import COMMANDS, doctor, main
from wildsight.errors import DataError
from wildsight.estimators import TASKS

SOURCE = Path(wildsight.__file__).parents[1]
HEAVY = ("torch", "transformers", "matplotlib", "scipy", "sklearn")


def exit_code(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def stand_in(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Register a command ``fail`` that raises ``error``."""

    def fail() -> None:
        raise error

    module = types.ModuleType("wildsight_test_command")
    module.fail = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "fail", (f"{module.__name__}:fail", "Fails."))


PROBE = """
import contextlib, io, json, sys
import wildsight
heavy, seen = json.loads(sys.argv[1]), {}
def note(name):
    seen[name] = [m for m in heavy if m in sys.modules]
note("import wildsight")
from wildsight.cli import main
for line in json.loads(sys.argv[2]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(line.split())
    note(line)
print(json.dumps(seen))
"""


def test_import_and_every_help_load_nothing_heavy() -> None:
    deeper = [f"anomaly {verb} --help" for verb in ("fit", "predict", "evaluate")]
    lines = ["--help", "--version", *(f"{name} --help" for name in COMMANDS), *deeper]
    command = [sys.executable, "-c", PROBE, json.dumps(HEAVY), json.dumps(lines)]
    env = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    seen = json.loads(done.stdout)
    assert list(seen) == ["import wildsight", *lines]
    assert {line: found for line, found in seen.items() if found} == {}


def test_check_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "part" / "good").mkdir(parents=True)
    command = [sys.executable, "-c", PROBE, json.dumps(["torch", "transformers"])]
    env = os.environ | {"PYTHONPATH": str(SOURCE)}
    line = f"check anomaly {tmp_path}"
    done = subprocess.run([*command, json.dumps([line])], capture_output=True, text=True, check=True, env=env)
    assert json.loads(done.stdout)[line] == []


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert name in text
        assert line in text


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_help_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([name, "--help"]) == 0
    assert f"wildsight {name}" in capsys.readouterr().out


def test_a_users_mistake_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, DataError("no such folder", where="/x", hint="check the path"))
    assert exit_code(["fail"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: /x: no such folder; check the path\n")


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, KeyboardInterrupt())
    assert exit_code(["fail"]) == 130


def test_our_own_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense", *COMMANDS]),
        (["check", "attic", "world"], ["no task is called 'attic'", "anomaly"]),
        (["bench", "attic"], ["no task is called 'attic'", "anomaly"]),
        (["check", "anomaly", "/no/such/folder"], ["/no/such/folder"]),
    ],
)
def test_what_is_unknown_is_named(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for word in words:
        assert word in err


FITS = [[task, "fit"] for task in TASKS if task not in ("compression", "continual")]


@pytest.mark.parametrize("command", [*FITS, ["continual", "update"]], ids=lambda words: words[0])
def test_a_fit_replaces_no_folder_of_the_user_s(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "thesis.txt").touch()
    assert exit_code([*command, "world", "--out", str(tmp_path)]) == 2
    assert "holds something that would be lost" in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*")] == ["checkpoint", "thesis.txt"]


def test_a_pretraining_replaces_no_folder_of_the_user_s(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    assert exit_code(["pretrain", "nano-sam", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "thesis.txt").is_file()


def test_an_unknown_option_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["doctor", "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err


def test_the_module_runs_and_its_exit_code_reaches_the_shell() -> None:
    env = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "wildsight.cli", "check", "attic", "world"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_doctor_is_content_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "torchvision_trouble", lambda: None)
    assert exit_code(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("python", "torch", "memory", "devices", str(tmp_path / "cache"), "nothing is broken"):
        assert word in text
    assert list((tmp_path / "cache").iterdir()) == []


def test_doctor_names_extras_of_the_package_metadata() -> None:
    try:
        extras = importlib.metadata.metadata("wildsight").get_all("Provides-Extra")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("wildsight is not installed, only on the path")
    assert set(doctor.EXTRAS) == set(extras or ())


def test_doctor_sees_a_torchvision_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metadata is there and the import fails: what a torchvision of another torch looks like."""
    package, facts = tmp_path / "torchvision", tmp_path / "torchvision-0.99.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99\n")
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    assert exit_code(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "nms does not exist" in text
    assert "pip uninstall torchvision timm" in text


def test_doctor_reports_a_cache_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(doctor, "torchvision_trouble", lambda: None)
    assert exit_code(["doctor"]) == 1
    assert "WILDSIGHT_CACHE" in capsys.readouterr().out


def test_public_names_come_on_first_use() -> None:
    assert set(wildsight.__all__) == set(dir(wildsight))
    assert wildsight.AnomalyDetector.__name__ == "AnomalyDetector"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = wildsight.Nothing


def test_commands_are_strings_to_modules_that_exist() -> None:
    for name in COMMANDS:
        assert callable(cli.load_command(name))


@pytest.mark.parametrize(("number", "said"), [(28, "disk is full"), (30, "cannot write here")])
def test_a_disk_that_refuses_is_one_sentence(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, OSError(number, "refused", "a.png"))
    assert exit_code(["fail"]) == 2
    assert f"error: a.png: {'the ' if number == 28 else ''}{said}" in capsys.readouterr().err
    stand_in(monkeypatch, OSError(5, "a fault", "a.png"))
    with pytest.raises(OSError, match="a fault"):
        main(["fail"])


def test_outside_a_clone_the_makers_are_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wildsight.cli import pretrain

    for name in [name for name in sys.modules if name.partition(".")[0] == "tools"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(pretrain, "CLONE", tmp_path)
    assert exit_code(["pretrain", "nano-sam"]) == 2
    err = capsys.readouterr().err
    assert "source repository" in err and "python -m tools.nano" in err and err.count("\n") == 1
