"""Floor 0: errors, budgets, atomic files, sources, results."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wildsight.errors import BudgetError, CheckpointError, ConfigError, DataError, ImageError
from wildsight.files import (
    MARK,
    atomic_folder,
    atomic_path,
    check_writable,
    load_checkpoint,
    recover_folder,
    save_checkpoint,
    verify_manifest,
    write_json,
)
from wildsight.keep import keep_top, n_keep
from wildsight.results import Table, mean_std_text, spread, write_csv
from wildsight.sources import parse_source


@given(st.integers(1, 5000), st.floats(1e-6, 1.0))
def test_share_is_rounded_half_up_and_never_zero(n: int, share: float) -> None:
    kept = n_keep(n, share)
    assert 1 <= kept <= n
    assert abs(kept - n * share) <= 0.5 + 1e-9 or kept == 1


@pytest.mark.parametrize("keep", [0, -1, 11, 0.0, 1.5, -0.1, True, "half"])
def test_budget_outside_its_range(keep: object) -> None:
    with pytest.raises(BudgetError, match="keep="):
        n_keep(10, keep)  # type: ignore[arg-type]


def test_one_is_a_count_and_one_point_zero_a_share() -> None:
    assert (n_keep(10, 1), n_keep(10, 1.0)) == (1, 10)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.data())
def test_kept_scores_are_the_highest(scores: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    kept = keep_top(scores, count)
    left = [s for i, s in enumerate(scores) if i not in kept]
    assert kept == sorted(kept) and len(kept) == count
    assert not left or min(scores[i] for i in kept) >= max(left)


def test_error_is_one_sentence_and_survives_pickling() -> None:
    error = ImageError("truncated", where="a.png", hint="restore it")
    assert str(error) == "a.png: truncated; restore it"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def names(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir()]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "run", "old") as temporary:
        (temporary / "new").touch()
        raise RuntimeError
    assert names(tmp_path / "run") == ["old"] and names(tmp_path) == ["run"]


def test_a_folder_takes_the_place_of_an_earlier_one_of_ours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, precious, file = tmp_path / "run", tmp_path / "precious", tmp_path / "file"
    for name in ("first", "second"):
        with atomic_folder(run) as temporary:
            (temporary / name).touch()
    assert sorted(names(run)) == [MARK, "second"]
    with pytest.raises(ConfigError, match="would be lost"):
        save_checkpoint(run, {"a": torch.zeros(1)}, {})  # of ours, but no checkpoint
    precious.mkdir()
    for _ in range(2):
        save_checkpoint(precious / "checkpoint", {"a": torch.zeros(1)}, {})
    (precious / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="would be lost"), atomic_folder(precious):
        raise RuntimeError
    assert sorted(names(precious)) == ["checkpoint", "thesis.txt"]
    file.touch()
    with pytest.raises(ConfigError, match="is a file"), atomic_folder(file):
        raise RuntimeError
    monkeypatch.chdir(run)
    with pytest.raises(ConfigError, match="the folder you work in"), atomic_folder("."):
        raise RuntimeError
    with pytest.raises(ConfigError, match="name the folder"), atomic_folder(""):
        raise RuntimeError


def test_an_interrupted_swap_is_finished(tmp_path: Path) -> None:
    (tmp_path / ".run.old").mkdir()
    assert recover_folder(tmp_path / "run").is_dir()


def test_a_checkpoint_is_read_from_inside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_checkpoint(tmp_path / "run", {"a": torch.ones(1)}, {"b": 1})
    (folder / "inner").mkdir()
    for place, name in ((folder, "."), (folder / "inner", "..")):
        monkeypatch.chdir(place)
        assert load_checkpoint(name)[1] == {"b": 1}
    with pytest.raises(ConfigError, match="name the folder"):
        load_checkpoint("")
    with pytest.raises(CheckpointError, match=r"no manifest\.json"):
        load_checkpoint("/")


def test_an_unwritable_folder_is_one_sentence() -> None:
    with pytest.raises(DataError, match="cannot write"):
        write_json("/proc/nowhere/a.json", {})


def test_an_unwritable_place_is_found_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "report.html")
    assert names(tmp_path / "new") == []
    with pytest.raises(DataError, match="cannot write"):
        check_writable("/proc/nowhere/report.html")


REFUSED_WRITE = """
import resource, sys, torch
from wildsight.errors import DataError
from wildsight.files import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(sys.argv[1], {"a": torch.zeros(4096)}, {})
except DataError as error:
    print(error)
"""


def test_tensors_that_the_disk_refuses_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", REFUSED_WRITE, str(tmp_path / "c")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout and names(tmp_path) == []


def test_checkpoint_round_trip_and_damage(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).t()}
    save_checkpoint(tmp_path / "c", tensors, {"x": 1})
    save_checkpoint(tmp_path / "c", tensors, {"x": 2})
    loaded, config = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded["a"], tensors["a"]) and config == {"x": 2}
    file = tmp_path / "c" / "head.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        verify_manifest(tmp_path / "c")
    file.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="no such"):
        load_checkpoint(tmp_path / "d")


def test_sources(tmp_path: Path) -> None:
    assert parse_source("world").path is None
    assert parse_source(tmp_path).reader == "folder"
    assert str(parse_source(f"mvtec-ad:{tmp_path}", ["mvtec-ad"])) == f"mvtec-ad:{tmp_path}"
    for wrong in (f"nosuch:{tmp_path.name}", tmp_path / "missing", f"mvtec-ad:{tmp_path / 'x'}"):
        with pytest.raises(DataError, match=";"):
            parse_source(wrong, ["mvtec-ad"])


def test_tables_and_spread(tmp_path: Path) -> None:
    assert Table(["a", "b"], [[1, "x"]]).markdown().splitlines()[1] == "|---|---|"
    write_csv(tmp_path / "t.csv", [{"a": 1}, {"b": 2}])
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,\n,2\n"
    assert spread([2.0]) == (2.0, 0.0) and mean_std_text([1.0, 2.0]) == "1.500 ± 0.707"


def run(code: str) -> dict[str, bool]:
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])


def test_import_and_help_leave_torch_alone() -> None:
    code = (
        "import sys, json, wildsight\nfrom wildsight.cli import main\n"
        "main(['--help'])\n"
        "for words in (['anomaly', 'fit', '--help'], ['bench', '--help'], ['check', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert not end.code\n"
        "print(json.dumps({'torch': 'torch' in sys.modules, 'transformers': 'transformers' in sys.modules}))"
    )
    assert run(code) == {"torch": False, "transformers": False}


def test_check_never_imports_torch(tmp_path: Path) -> None:
    code = (
        f"import sys, json\nfrom wildsight.cli import main\n"
        f"try: main(['check', 'anomaly', {str(tmp_path)!r}])\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "print(json.dumps({'torch': 'torch' in sys.modules}))"
    )
    assert run(code) == {"torch": False}
