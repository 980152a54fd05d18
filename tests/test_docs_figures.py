"""The schematics are what their program draws, one for every method, on the page of its task."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {
    "ras": "anomaly", "spt": "segmentation", "hdaoe": "composition", "ramln": "retrieval",
    "nngcd": "discovery", "mulki": "continual", "pwrf": "fusion", "llmi3d": "spatial",
    "vtc-cls": "compression", "prefixkv": "compression",
}  # fmt: skip


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_figures", DOCS / "make_figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = maker()
LAYOUT = sys.modules["make_layout"]
FILES = MAKER.files()


@pytest.mark.parametrize("name", FILES)
def test_it_is_what_the_program_draws(name: str) -> None:
    text = (DOCS / "assets" / name).read_text(encoding="utf-8")
    assert text == FILES[name]
    root = xml.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert float(root.attrib["width"]) == LAYOUT.WIDTH


def test_every_method_has_one_on_its_page() -> None:
    from wildsight.estimators import TASKS

    assert set(PAGES) == set(MAKER.FIGURES) and set(PAGES.values()) == set(TASKS)
    for name, task in PAGES.items():
        assert f"(../assets/method-{name}.svg)" in (DOCS / "tasks" / f"{task}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", sorted(set(PAGES.values())))
def test_every_page_says_what_to_tune_what_fails_and_what_it_costs(task: str) -> None:
    lines = (DOCS / "tasks" / f"{task}.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in ("## Tuning", "## Limits", "## Cost")] == [
        "## Tuning", "## Limits", "## Cost",
    ]  # fmt: skip


def test_the_house_names_every_task_and_command() -> None:
    from wildsight.cli import COMMANDS
    from wildsight.estimators import TASKS

    words = " ".join(xml.fromstring(FILES["house.svg"]).itertext()).replace("·", " ").split()
    assert set(words) >= set(TASKS) | set(COMMANDS)


def test_what_does_not_fit_is_an_error() -> None:
    sheet = LAYOUT.Sheet("x")
    with pytest.raises(LAYOUT.Overflow, match="wider"):
        sheet.row(*(LAYOUT.Box(str(i), "data", "incomprehensibilities") for i in range(4)))
    sheet = LAYOUT.Sheet("x")
    for name in "abc":
        sheet.row(LAYOUT.Box(name, "data", name))
    sheet.arrow("a", "c")
    with pytest.raises(LAYOUT.Overflow, match="crosses b"):
        sheet.svg()
    del sheet.paths[:]
    sheet.boxes["c"].y = sheet.boxes["b"].y + 2
    with pytest.raises(LAYOUT.Overflow, match="lies on"):
        sheet.svg()
