"""Results, tables and the folder of a run."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wildsight.errors import DataError
from wildsight.estimators.rows import RowWriter
from wildsight.results import (
    Result,
    RunFolder,
    Table,
    environment,
    mean_std_text,
    spread,
    summarised,
    write_csv,
)


@dataclass(frozen=True)
class Point:
    x: float


@dataclass(frozen=True)
class Found(Result):
    image: Path | None
    score: Any
    box: Any
    map: Any
    extra: Any = None

    def figure(self) -> None:
        return None


def test_a_result_becomes_json_and_large_arrays_are_summarised() -> None:
    big = np.arange(64, dtype=np.float32).reshape(8, 8)
    found = Found(Path("a.png"), np.float32(0.5), torch.tensor([1, 2]), big, {"p": Point(1.0), "n": math.inf})
    value = found.to_dict()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert (value["image"], value["score"], value["box"]) == ("a.png", 0.5, [1, 2])
    assert value["map"] == {"shape": [8, 8], "dtype": "float32", "min": 0.0, "max": 63.0, "mean": 31.5}
    assert value["extra"] == {"p": {"x": 1.0}, "n": None}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.float32])
def test_a_large_tensor_of_any_dtype_is_summarised(dtype: torch.dtype) -> None:
    value = summarised(torch.ones(5, 5, dtype=dtype))
    assert value == {"shape": [5, 5], "dtype": str(dtype), "min": 1.0, "max": 1.0, "mean": 1.0}


def test_small_arrays_with_nan_are_listed_without_it() -> None:
    assert summarised(np.array([1.0, np.nan])) == [1.0, None]
    assert summarised(np.zeros((0, 3))) == []
    with pytest.raises(TypeError, match="object has no JSON form"):
        summarised(object())


def test_a_result_needs_a_figure() -> None:
    with pytest.raises(TypeError, match="figure"):
        Result()


def test_markdown_keeps_its_columns_whatever_is_in_a_cell() -> None:
    lines = Table(["a|b", "c"], [["x\ny", "p|q"]]).markdown().splitlines()
    assert lines == [r"| a\|b | c |", "|---|---|", r"| x y | p\|q |"]


def test_csv_survives_commas_quotes_and_line_breaks() -> None:
    row = ['a,"b"', "c\nd"]
    assert list(csv.reader(io.StringIO(Table(["x", "y"], [row]).csv()))) == [["x", "y"], row]


def test_rich_prints_brackets_as_they_are() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=60)
    console.print(Table(["[red]"], [["[/bold] x"]]).rich())
    assert "[red]" in console.file.getvalue()
    assert "[/bold] x" in console.file.getvalue()


def test_write_csv_takes_the_union_of_keys_in_order(tmp_path: Path) -> None:
    write_csv(tmp_path / "r.csv", [{"b": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "r.csv").read_text() == "b,a\n1,\n3,2\n"


def test_spread_is_the_sample_standard_deviation() -> None:
    numbers = [0.5, 0.75, 0.8, 0.1]
    assert spread(numbers) == pytest.approx((np.mean(numbers), np.std(numbers, ddof=1)))
    assert spread([0.3]) == (0.3, 0.0)
    assert mean_std_text([1.0, 3.0], digits=1) == "2.0 ± 1.4"


def test_a_run_leaves_the_same_names_and_nothing_half_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new" / "run")
    folder.write_scores({"auroc": np.float64(0.5)})
    assert json.loads(folder.scores.read_text()) == {"auroc": 0.5}
    names = [p.name for p in (folder.scores, folder.results, folder.report, folder.checkpoint)]
    assert names == ["scores.json", "results.csv", "report.html", "checkpoint"]
    with pytest.raises(ValueError, match="Out of range"):
        folder.write_scores({"auroc": math.nan})
    assert [p.name for p in folder.path.iterdir()] == ["scores.json"]
    assert json.loads(folder.scores.read_text()) == {"auroc": 0.5}


def test_a_run_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(DataError, match="run"):
        RunFolder(tmp_path / "run").write_scores({})


def test_environment_names_versions() -> None:
    import wildsight

    facts = environment()
    assert facts["wildsight"] in (wildsight.__version__, "not installed")
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert int(facts["cores"]) >= 1


def test_rows_are_on_disk_when_they_are_added(tmp_path: Path) -> None:
    """A row with a column that is new widens those before it; what is written equals a table made at once."""
    rows: list[dict[str, object]] = [{"a": 1, "b": "x, y"}, {"a": 2, "c": 0.5}, {"b": 'say "no"', "c": None}]
    writer = RowWriter(tmp_path / "rows.csv")
    for count, row in enumerate(rows, 1):
        writer.add(row)
        write_csv(tmp_path / "whole.csv", rows[:count])
        assert (tmp_path / "rows.csv").read_text() == (tmp_path / "whole.csv").read_text()
    writer.close()
    RowWriter(tmp_path / "rows.csv").close()
    write_csv(tmp_path / "whole.csv", [])
    assert (tmp_path / "rows.csv").read_text() == (tmp_path / "whole.csv").read_text()
