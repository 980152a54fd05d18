"""The notebooks are those of the examples, and run from top to bottom."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "docs" / "make_notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = maker()
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def test_there_is_one_for_every_task() -> None:
    from wildsight.estimators import TASKS

    assert {n.stem for n in NOTEBOOKS} >= set(TASKS)
    assert [n.stem for n in NOTEBOOKS] == [s.stem for s in MAKER.sources()]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_it_is_what_its_example_gives(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text == MAKER.written((ROOT / "examples" / f"{file.stem}.py").read_text(encoding="utf-8"))
    made = json.loads(text)
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    kinds = [c["cell_type"] for c in made["cells"]]
    assert kinds[0] == "markdown" and "code" in kinds
    assert len({c["id"] for c in made["cells"]}) == len(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_it_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells in one namespace; the last expression of a cell is what a notebook would show."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]), file.name)
            exec(compile(tree, file.name, "exec"), names)
