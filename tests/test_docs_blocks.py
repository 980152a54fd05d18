"""What the documentation shows of files can be read by the code that reads such files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import docs_world
from docs_pages import blocks


def shown(page: str, language: str = "json") -> str:
    """The only block of a language on a page."""
    (text,) = [text for where, text in blocks(language) if where == page]
    return text


def test_the_shown_questions_are_read(tmp_path: Path) -> None:
    from wildsight.compression.evaluation.questions import read_source

    (tmp_path / "questions.jsonl").write_text(shown("docs/tasks/compression.md"), encoding="utf-8")
    (sample,) = read_source(tmp_path).samples
    assert (sample.image, sample.kind) == (tmp_path / "images" / "0001.jpg", "state")


def test_the_shown_tasks_are_read(tmp_path: Path) -> None:
    from wildsight.continual.data import read_source

    for split in ("train", "test"):
        for name in ("open valve", "shut valve"):
            folder = tmp_path / "valves" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "0.png")
    (tmp_path / "tasks.json").write_text(shown("docs/tasks/continual.md"), encoding="utf-8")
    sequence = read_source(tmp_path)
    (task,) = sequence.tasks
    assert (sequence.scenario, task.name, len(task.train)) == ("task", "valves", 2)
    assert task.templates == ("a photo of a {}", "a close photo of a {}")


def test_the_shown_settings_of_sensors_are_read(tmp_path: Path) -> None:
    from wildsight.fusion.data import read_source

    for stem in ("0001", "0002"):
        for name, kind in (("rgb", np.uint8), ("depth", np.uint16), ("masks", np.uint8)):
            file = tmp_path / "train" / name / f"{stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 2, kind)).save(file)
    (tmp_path / "fusion.json").write_text(shown("docs/tasks/fusion.md"), encoding="utf-8")
    data = read_source(tmp_path)
    assert data.classes == ("road", "crack", "pothole")
    assert [s.condition for s in data.found.samples] == ["night", ""]
    assert data.found.scales["depth"] == 10000


def test_the_shown_label_is_read(tmp_path: Path) -> None:
    from wildsight.spatial.data import read_source

    for name in ("images", "calib"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (96, 96)).save(tmp_path / "images" / "000001.png")
    (tmp_path / "calib" / "000001.txt").write_text(docs_world.P2, encoding="utf-8")
    (tmp_path / "labels.jsonl").write_text(shown("docs/tasks/spatial.md"), encoding="utf-8")
    (sample,) = read_source(tmp_path).samples
    assert sample.expression == "the red cube" and sample.targets[0].yaw == pytest.approx(0.3)


def test_every_shown_json_has_its_test() -> None:
    tasks = ("compression", "continual", "fusion", "spatial")
    assert [page for page, _ in blocks("json")] == [f"docs/tasks/{task}.md" for task in tasks]


def test_the_program_for_another_engine_names_what_is_here() -> None:
    """It needs an engine that is not installed; its grammar and our own names in it are checked."""
    code = shown("docs/tasks/compression.md", "text")
    compile(code, "docs/tasks/compression.md", "exec")
    exec("\n".join(line for line in code.splitlines() if line.startswith("from wildsight")), {})
