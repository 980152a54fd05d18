"""Two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wildsight.cli import main
from wildsight.errors import DataError
from wildsight.workflows.compare import compare


def run(folder: Path, auc: float, seeds: int, **more: object) -> Path:
    folder.mkdir()
    rows = [{"category": "bolt", "auc": auc}, {"category": "mean", "auc": auc / 2}]
    (folder / "scores.json").write_text(json.dumps({"scores": rows, "facts": {"seeds": seeds}, **more}))
    return folder


def test_scores_that_moved_and_settings_that_differ(tmp_path: Path) -> None:
    result = compare(run(tmp_path / "a", 0.5, 1, source="x"), run(tmp_path / "b", 0.75, 1, source="y"))
    rows = {row[0]: row[3] for row in result.scores.rows}
    assert rows == {"scores.bolt.auc": 0.25, "scores.mean.auc": 0.125, "facts.seeds": 0}
    assert result.changes.rows == [["source", "x", "y"]]
    assert result.summary == "2 of 3 scores moved"


def test_rows_are_matched_by_name_not_by_place(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", 0.5, 1), run(tmp_path / "b", 0.5, 1)
    scores = json.loads((b / "scores.json").read_text())
    scores["scores"].reverse()
    (b / "scores.json").write_text(json.dumps(scores))
    assert not compare(a, b).moved.rows


def test_a_folder_without_scores_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no scores\.json"):
        compare(tmp_path, tmp_path)


def test_the_command_says_whether_anything_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run(tmp_path / "a", 0.5, 1), run(tmp_path / "b", 0.6, 1)
    page = tmp_path / "diff.html"
    with pytest.raises(SystemExit) as end:
        main(["report", "diff", str(a), str(b), "--out", str(page)])
    assert end.value.code == 1
    assert "2 of 3 scores moved" in capsys.readouterr().out
    assert "scores.bolt.auc" in page.read_text()
    with pytest.raises(SystemExit) as end:
        main(["report", "diff", str(a), str(a)])
    assert end.value.code == 0


def test_a_long_name_is_folded_not_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = "".join(f"part{n}." for n in range(30))
    for folder, score in (("a", 0.5), ("b", 0.75)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "scores.json").write_text(json.dumps({word: score}))
    with pytest.raises(SystemExit):
        main(["report", "diff", str(tmp_path / "a"), str(tmp_path / "b")])
    out = capsys.readouterr().out
    rows = [line.split("\u2502")[1].strip() for line in out.splitlines() if line.count("\u2502") > 2]
    assert "\u2026" not in out and word in "".join(rows)
