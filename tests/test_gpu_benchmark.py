"""The benchmark of what a GPU changes, on the CPU: every part runs, and a device agrees with itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")
spec = importlib.util.spec_from_file_location("wildsight_gpu_benchmark", SCRIPT)
assert spec is not None and spec.loader is not None
gpu = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu)


def test_differences_are_relative_above_one_and_words_are_compared() -> None:
    assert gpu.differences([10.0, "a", True], [11.0, "a", True]) == (pytest.approx(1 / 11), True)
    assert gpu.differences([0.1, "a"], [0.2, "b"]) == (pytest.approx(0.1), False)
    assert gpu.differences([float("nan")], [1.0])[1] is False


def test_the_parts_without_a_fit_run_on_the_cpu() -> None:
    scores = gpu.run(CPU, ("compression", "routing"), tiny=True)
    methods = scores["compression"]["methods"]
    assert list(methods) == ["stock", "vtc-cls", "prefixkv", "both"]
    assert methods["both"]["cache_mib"] < methods["prefixkv"]["cache_mib"] < methods["stock"]["cache_mib"]
    assert methods["vtc-cls"]["prompt_tokens"] < methods["stock"]["prompt_tokens"]
    assert scores["routing"]["within"] and scores["routing"]["largest_gradient_difference"] == 0.0
    json.dumps(scores, allow_nan=False)


def test_a_task_says_the_same_twice(tmp_path: Path) -> None:
    row = gpu.task_row(gpu.subjects()["composition"], CPU, 2, False, tmp_path / "model")
    assert row["within"] and row["largest_difference"] == row["largest_feature_difference"] == 0.0


def test_a_part_that_fails_is_named() -> None:
    def fail() -> dict[str, object]:
        raise RuntimeError("no kernel")

    assert gpu.guarded(fail)["failed"] == "RuntimeError: no kernel"


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path)])
    gpu.main()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert not [name for name in gpu.PARTS if "failed" in scores[name]]
    assert all(row.get("within") for name, row in scores["tasks"].items() if name != "seconds")
