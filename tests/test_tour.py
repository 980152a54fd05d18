"""The tour: a stop that fails is shown, the exit code says so, and its options reach the stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wildsight.cli import main
from wildsight.errors import DataError
from wildsight.estimators import TASKS
from wildsight.report import Report
from wildsight.results import Table
from wildsight.workflows import tour as module
from wildsight.workflows.tour import STOPS, Stop, tour


def writes(words: str) -> Callable[[Report, Path, bool], None]:
    def run(report: Report, folder: Path, quick: bool) -> None:
        report.text(f"{words}, {'quick' if quick else 'whole'}, in {folder.name}")

    return run


def fails(error: Exception) -> Callable[[Report, Path, bool], None]:
    def run(report: Report, folder: Path, quick: bool) -> None:
        report.text("half of it")
        raise error

    return run


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tiny stops: two that work, one with a fault of the user's, one with a fault of ours."""
    made = (
        Stop("first", "see the first", writes("one was here")),
        Stop("user", "see a fault", fails(DataError("holds no picture", where="data", hint="add one"))),
        Stop("ours", "see a bug", fails(ZeroDivisionError("division by nought"))),
        Stop("last", "see the last", writes("four was here")),
    )
    monkeypatch.setattr(module, "STOPS", made)


def run(tmp_path: Path, *options: str) -> tuple[int, str]:
    page = tmp_path / "report.html"
    with pytest.raises(SystemExit) as end:
        main(["tour", "--out", str(page), "--work", str(tmp_path / "work"), *options])
    return int(end.value.code or 0), page.read_text(encoding="utf-8") if page.is_file() else ""


def test_the_tour_visits_the_world_and_every_task() -> None:
    assert [stop.name for stop in STOPS] == ["world", *TASKS]


def test_a_stop_that_fails_is_shown_and_the_exit_code_says_so(
    stops: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, page = run(tmp_path)
    assert code == 1
    assert "one was here" in page and "four was here" in page and page.count("half of it") == 2
    assert "FAILED: data: holds no picture; add one" in page
    assert "ZeroDivisionError: division by nought" in page and "Traceback" in page
    for name, outcome in (("first", "done"), ("user", "FAILED"), ("ours", "FAILED"), ("last", "done")):
        assert f"<td>{name}</td><td>{outcome}</td>" in page
    assert "user: FAILED: data: holds no picture" in capsys.readouterr().out
    assert "<th></th>" not in page


def test_only_and_quick_reach_the_stops(stops: None, tmp_path: Path) -> None:
    code, page = run(tmp_path, "--only", "first", "--only", "last", "--quick")
    assert code == 0
    assert "one was here, quick, in first" in page and "four was here, quick, in last" in page
    assert "half of it" not in page and "FAILED" not in page
    assert "whole, in first" in run(tmp_path, "--only", "first")[1]


def test_an_unknown_stop_is_named_before_any_work(
    stops: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, page = run(tmp_path, "--only", "attic")
    assert (code, page) == (2, "")
    assert "no stop is called 'attic'; use one of first, user, ours, last" in capsys.readouterr().err


def test_a_stop_stands_in_a_folder_of_its_own(stops: None, tmp_path: Path) -> None:
    outcomes = tour(tmp_path / "page.html", work=tmp_path / "work", only=("first",), say=lambda _: None)
    assert [(o.name, o.error) for o in outcomes] == [("first", None)]


def test_links_wrap_and_scores_have_names(tmp_path: Path) -> None:
    report = Report("many")
    for number in range(9):
        report.section(f"section{number}: of nine")
    report.table(Table(["image_auroc", "all"], [["bolt", 1]]))
    page = report.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "nav a{display:inline-block" in page and page.count('<a href="#s') == 9
    assert "<th>Image AUROC</th><th>all</th>" in page
