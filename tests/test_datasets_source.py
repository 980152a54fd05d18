"""What every task's source has in common: reading by name, the world in the cache, and the check."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.datasets.source import DataSource, read_named, world_folder, write_pictures
from wildsight.errors import DataError
from wildsight.estimators import TASKS, resolve
from wildsight.sources import Problem

TASK_NAMES = sorted(set(TASKS) - {"compression"})


def listing(root: Path) -> list[str]:
    if (root / "bad.csv").exists():
        raise DataError("is bad", where=root / "bad.csv", hint="mend it")
    if not (root / "ok").exists():
        raise DataError("another layout", where=root)
    return sorted(p.name for p in root.iterdir())


SOURCE = DataSource(
    {"folder": listing, "set": listing},
    lambda: ["drawn"],
    lambda data: [Problem(Path(n), "seen", "-") for n in data],
)


def test_a_source_is_the_world_a_name_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "ok").touch()
    assert SOURCE.read("world") == ["drawn"]
    assert SOURCE.read(tmp_path) == SOURCE.read(f"set:{tmp_path}") == ["ok"]
    assert [p.file.name for p in SOURCE.problems(tmp_path)] == ["ok"]


@pytest.mark.parametrize("form", ["{}", "set:{}"])
def test_a_fault_inside_is_a_problem_and_another_layout_an_error(form: str, tmp_path: Path) -> None:
    text = form.format(tmp_path)
    with pytest.raises(DataError, match="another layout"):
        SOURCE.problems(text)
    (tmp_path / "bad.csv").touch()
    (tmp_path / "photo.heic").touch()
    found = SOURCE.problems(text)
    assert [p.what for p in found] == ["is bad", "1 picture in a format that is not read (.heic)"]
    assert found[0].hint == "mend it"
    with pytest.raises(DataError, match="no such folder"):
        SOURCE.problems(tmp_path / "absent")


def test_readers_by_name(tmp_path: Path) -> None:
    (tmp_path / "ok").touch()
    assert read_named(SOURCE.readers, "set", tmp_path) == ["ok"]
    with pytest.raises(DataError, match="no reader is called 'sets'; use one of folder, set"):
        read_named(SOURCE.readers, "sets", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_named(SOURCE.readers, "set", tmp_path / "absent")


def test_the_world_is_drawn_once_for_each_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path))
    drawn: list[Path] = []

    def draw(folder: Path) -> None:
        drawn.append(folder)
        pixels = np.full((4, 4, 3), len(drawn), np.uint8)
        write_pictures(folder, [("a/b/0.png", pixels)], lambda: {"list.txt": "a"})

    one = world_folder("things", 1, {"seed": 0, "size": 4}, draw)
    assert one.name == "things-v1-seed0-size4" and one == world_folder(
        "things", 1, {"seed": 0, "size": 4}, draw
    )
    assert (one / "list.txt").read_text() == "a" and len(drawn) == 1
    other = world_folder("things", 2, {"seed": 0, "size": 4}, draw)
    assert np.asarray(Image.open(other / "a/b/0.png")).max() == 2 and len(drawn) == 2


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task_checks_and_reads_through_its_data_module(task: str) -> None:
    module = importlib.import_module(f"wildsight.{task}.data")
    assert resolve(TASKS[task].check) is module.check_source
    assert {"folder"} <= set(module.READERS)
    for name in ("READERS", "check", "check_source", "read", "read_source"):
        assert hasattr(module, name), name


def test_the_documented_former_names_are_kept() -> None:
    for task in ("anomaly", "composition", "continual", "fusion", "retrieval", "spatial"):
        former = importlib.import_module(f"wildsight.{task}.source")
        module = importlib.import_module(f"wildsight.{task}.data")
        assert all(getattr(former, name) is getattr(module, name) for name in former.__all__)
