"""Hostile checkpoints are refused before they cost anything, and two writers at once lose nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wildsight.anomaly.threshold import Threshold
from wildsight.errors import CheckpointError, DataError
from wildsight.files import locked, sha256, verify_manifest, write_json
from wildsight.workflows.inspect.project import Looked, Project, open_project

WRITER = """
import sys
from pathlib import Path
from wildsight.workflows.inspect.project import Looked, open_project
who, folder = sys.argv[1:]
project = open_project(folder)
print("open", flush=True)
sys.stdin.readline()
for i in range(4):
    project.looked[f"{who}{i}"] = Looked(f"{who}{i}", "x.png", 1.0, 2.0, ())
    project.save()
"""
HOLDER = """
import sys, time
from wildsight.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def running(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another process that has printed its first line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline().strip()
    return child


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that nobody has looked with."""
    made = Project(tmp_path / "p", {"good": "g", "method": "patchcore", "backbone": "nano-conv"})
    made.save()
    return made


def test_two_processes_that_look_at_once_lose_nothing(project: Project) -> None:
    children = [running(WRITER, who, project.folder) for who in "ab"]
    for child in children:
        child.communicate("\n", timeout=300)
    assert [c.returncode for c in children] == [0, 0]
    assert set(open_project(project.folder).looked) == {f"{who}{i}" for who in "ab" for i in range(4)}


def test_a_save_keeps_what_another_wrote_and_what_was_taken_away(project: Project) -> None:
    project.names = {"a": "scratch", "b": "stain"}
    project.groups = {"a": {"group": "g", "confidence": 1.0, "doubtful": False}}
    project.save()
    other = open_project(project.folder)
    del other.names["b"]
    other.names["c"] = "crack"
    other.groups["a"]["confidence"] = 0.5
    other.save()
    project.names["d"] = "dent"
    project.looked["s"] = Looked("s", "x.png", 1.0, 2.0, ())
    project.save()
    kept = open_project(project.folder)
    assert kept.names == project.names == {"a": "scratch", "c": "crack", "d": "dent"}
    assert kept.groups["a"]["confidence"] == 0.5 and set(kept.looked) == {"s"}


def test_a_lock_is_waited_for_and_a_dead_process_holds_none(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    child = running(HOLDER, file)
    try:
        with pytest.raises(DataError, match="another process"), locked(file, wait=0.1):
            pass
    finally:
        child.kill()
        child.wait()
    with locked(file, wait=5):
        pass


@pytest.mark.parametrize(
    "manifest",
    [
        {"format": 1, "sha256": {}},
        {"format": 99, "sha256": {"config.json": ""}},
        {"sha256": {"config.json": ""}},
        {"format": 1, "sha256": {"config.json": "", "../other": ""}},
        {"format": 1, "sha256": {"config.json": "", "/proc/self/status": ""}},
        {"format": 1, "sha256": {"config.json": "", "link": ""}},
        [],
    ],
)
def test_a_manifest_lists_what_is_read_and_nothing_outside(tmp_path: Path, manifest: object) -> None:
    root = tmp_path / "c"
    root.mkdir()
    files = [root / "config.json", tmp_path / "other"]
    for file in files:
        file.write_text("{}")
    (root / "link").symlink_to(files[1])
    if isinstance(manifest, dict):
        manifest = {**manifest, "sha256": dict.fromkeys(manifest["sha256"], sha256(files[0]))}
    write_json(root / "manifest.json", manifest)
    with pytest.raises(CheckpointError):
        verify_manifest(root, ["config.json"])
    write_json(root / "manifest.json", {"format": 1, "sha256": {"config.json": sha256(files[0])}})
    verify_manifest(root, ["config.json"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, "3"])
def test_a_threshold_that_nothing_exceeds_is_refused(value: float) -> None:
    with pytest.raises(CheckpointError):
        Threshold(value, 0.05, 99)
