"""The page in a real browser, driven as a person would; skipped where no Chromium is installed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")
pytest.importorskip("playwright.sync_api")

from app_pages import CHROMIUM, DRIVES, PHONE, WIDE, browser, press, served, show, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page, whose sample models learn for less time than they would for a person."""
    from wildsight.anomaly.data import world_folder
    from wildsight.app.tabs import composition, continual, fusion, inspect, retrieval, spatial
    from wildsight.workflows.inspect import describing

    world_folder()
    patch = pytest.MonkeyPatch()
    for tab in (composition, fusion, spatial, retrieval, continual):
        patch.setitem(tab.PRESET.training, "epochs", 1)
    patch.setitem(spatial.PICTURES, "train", 16)
    patch.setattr(continual, "COUNT", 2)
    patch.setitem(inspect.LEARNING, "epochs", 1)
    patch.setitem(describing.TRAINING_SET, "per_pair", 1)
    with served() as url:
        yield url
    patch.undo()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as made:
        yield made


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A page opened on the address, and the addresses that it asked for."""
    made = chromium.new_page(viewport=WIDE)
    made.asked = []
    made.on("request", lambda request: made.asked.append(request.url))
    made.goto(address)
    yield made
    made.close()


def faults(page: Any) -> int:
    return page.locator("[data-testid=toast-body]").count()


@pytest.mark.parametrize("name", DRIVES)
def test_every_tab_answers_about_its_sample(page: Any, name: str, tmp_path: Path) -> None:
    panel = show(page, name)
    DRIVES[name](panel, tmp_path)
    assert faults(page) == 0
    outside = [u for u in page.asked if "127.0.0.1" not in u and not u.startswith(("data:", "blob:"))]
    assert outside == []
    page.set_viewport_size(PHONE)
    page.wait_for_function(FITS, timeout=10_000)
    assert page.evaluate(FRAMED) == []


FITS = "document.documentElement.scrollWidth <= window.innerWidth"
FRAMED = """() => [...document.querySelectorAll('.prose table')].filter(e => e.checkVisibility())
  .map(e => getComputedStyle(e).borderTopWidth).filter(w => w != '0px')"""
"""Tables with a frame of their own around that of their cells."""


def test_every_control_has_a_label_and_every_tab_fits_a_telephone(chromium: Any, address: str) -> None:
    page = chromium.new_page(viewport=PHONE)
    page.goto(address)
    for name in DRIVES:
        panel = show(page, name)
        panel.locator("button.primary").first.wait_for(timeout=60_000)
        assert panel.locator("strong").first.inner_text()
        assert page.evaluate(FITS), name
        assert page.evaluate(NAMELESS) == [], name
    page.close()


NAMELESS = """() => [...document.querySelectorAll('[role=tabpanel] input, [role=tabpanel] textarea,'
  + '[role=tabpanel] button')].filter(e => e.checkVisibility() && e.type != 'file'
  && !e.ariaLabel && !e.title && !e.innerText.trim()
  && !(e.labels && [...e.labels].some(l => l.innerText.trim()))
  && !e.closest('[class*=toolbar], canvas')).map(e => e.outerHTML.slice(0, 120))"""


def test_the_keyboard_reaches_upload_and_button(page: Any) -> None:
    panel = show(page, "anomaly")
    panel.locator("button.primary").first.wait_for(timeout=60_000)
    page.get_by_role("tab", name="Find defects").focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focus = "document.activeElement.ariaLabel || document.activeElement.innerText"
        reached.append(str(page.evaluate(focus)).strip())
        if reached[-1] == "Look":
            break
    assert any("upload" in text.lower() or "drop" in text.lower() for text in reached), reached
    assert reached[-1] == "Look", reached
    page.keyboard.press("Enter")
    until(page, "no picture was given")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What is no picture, and one that has too many pixels."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "words.png").write_bytes(b"this is no picture")
    (folder / "empty.zip").write_bytes(b"")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    whole = folder / "whole.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(whole)
    (folder / "torn.png").write_bytes(whole.read_bytes()[:60])
    return [folder / name for name in ("words.png", "huge.png", "torn.png", "empty.zip")]


PRESSED = {
    "anomaly": "Look", "segmentation": "Outline the box", "inspect": "1. Look", "retrieval": "Find",
    "composition": "Recognise", "compression": "Ask", "fusion": "Fuse", "spatial": "Find it",
    "continual": "2. Teach this task", "discovery": "Sort",
}  # fmt: skip


def test_any_file_in_any_tab_twice_while_another_job_runs(
    chromium: Any, address: str, bad: list[Path], tmp_path: Path
) -> None:
    """Each is a sentence in the page, not a fault of ours, and the server answers afterwards."""
    other = chromium.new_page(viewport=WIDE)
    other.goto(address)
    press(show(other, "discovery"), "Sort")
    page = chromium.new_page(viewport=WIDE)
    for number, (name, button) in enumerate(PRESSED.items()):
        for turn in range(2):
            page.goto(address)
            panel = show(page, name)
            prepare(name, panel, tmp_path)
            upload(panel, name, bad[(number + turn) % len(bad)])
            before = said(page)
            press(panel, button)
            page.wait_for_function(CHANGED, arg=[before], timeout=200_000)
            text = said(page)
            assert "fault of ours" not in text, (name, text)
    until(show(other, "discovery"), "new_")
    other.close()
    page.close()


SAID = "[...document.querySelectorAll('[data-testid=toast-body], li')].map(e => e.innerText).join('|')"
CHANGED = f"([before]) => {SAID} !== before"


def said(page: Any) -> str:
    """Every message and list item of the page; what could not be read is an item that names its file."""
    return str(page.evaluate(SAID))


def prepare(name: str, panel: Any, folder: Path) -> None:
    """What else a tab wants before its button is pressed."""
    if name == "inspect":
        panel.get_by_label("Project folder").fill(str(folder / "bad-project"))
    elif name == "compression":
        panel.get_by_label("Question").fill("is there a cube ?")
    elif name == "spatial":
        panel.get_by_label("What is looked for").fill("the cube")
    elif name == "continual":
        panel.get_by_label("Folder of the learner").fill(str(folder / "learner"))
        panel.get_by_label("Name of one more task").fill("bad")
        press(panel, "1. Teach the sample tasks")
        until(panel, "tasks are learned")
    elif name == "discovery":
        panel.get_by_label("my pictures").click()
        upload_many(panel, -1, labelled(folder))


def labelled(folder: Path) -> list[Path]:
    """Two pictures of each of two classes."""
    files = []
    for shade, kind in enumerate(("dark", "light")):
        for number in range(2):
            files.append(folder / f"{kind}_{number}.png")
            Image.new("RGB", (64, 64), (200 * shade + 20 * number, 40, 90)).save(files[-1])
    return files


def upload_many(panel: Any, which: int, files: list[Path]) -> None:
    """Put files into one of the tab's uploads."""
    panel.locator("input[type=file]").nth(which).set_input_files([str(f) for f in files])
    panel.get_by_text(files[-1].stem, exact=False).first.wait_for(timeout=200_000)


def upload(panel: Any, name: str, file: Path) -> None:
    """Put a file into the tab's upload."""
    upload_many(panel, {"retrieval": -1}.get(name, 0), [file])


def test_a_sorted_folder_names_what_could_not_be_read(page: Any, bad: list[Path], tmp_path: Path) -> None:
    panel = show(page, "discovery")
    prepare("discovery", panel, tmp_path)
    free = tmp_path / "free.png"
    Image.new("RGB", (64, 64), (210, 45, 90)).save(free)
    upload_many(panel, 0, [free, bad[0]])
    press(panel, "Sort")
    until(panel, "not read: words.png")
    assert faults(page) == 0


def test_a_closed_browser_loses_nothing(chromium: Any, address: str, tmp_path: Path) -> None:
    page = chromium.new_page(viewport=WIDE)
    page.goto(address)
    panel = show(page, "continual")
    panel.get_by_label("Folder of the learner").fill(str(tmp_path / "learner"))
    press(panel, "1. Teach the sample tasks")
    page.wait_for_timeout(1000)
    page.close()
    end = time.monotonic() + 200
    while not (tmp_path / "learner" / "checkpoint").is_dir() and time.monotonic() < end:
        time.sleep(0.2)
    page = chromium.new_page(viewport=WIDE)
    page.goto(address)
    panel = show(page, "continual")
    panel.get_by_label("Folder of the learner").fill(str(tmp_path / "learner"))
    press(panel, "1. Teach the sample tasks")
    until(panel, "2 tasks are learned")
    page.close()


def test_a_task_that_breaks_the_guard_is_refused(page: Any, tmp_path: Path) -> None:
    from wildsight.app.models import Chosen
    from wildsight.app.tabs import continual
    from wildsight.errors import CheckpointError

    panel = show(page, "continual")
    panel.get_by_label("Folder of the learner").fill(str(tmp_path / "learner"))
    press(panel, "1. Teach the sample tasks")
    until(panel, "2 tasks are learned")
    press(panel, "Take a sample task")
    until(panel, ".zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(continual.PRESET.training, "lr", 0.05)
        press(panel, "2. Teach this task")
        until(panel, "REFUSED")
    assert panel.get_by_text("2 tasks are learned").count() == 1
    files = sorted(p for p in (tmp_path / "learner" / "checkpoint").iterdir())
    weights = next(f for f in files if f.suffix == ".safetensors")
    weights.write_bytes(weights.read_bytes()[:-64] + bytes(64))
    with pytest.raises(CheckpointError, match="SHA-256"):
        continual.teach_samples(Chosen(), str(tmp_path / "learner"))


def test_a_project_of_another_version_or_damaged_is_a_message(page: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    panel = show(page, "inspect")
    panel.get_by_label("Project folder").fill(str(project))
    for text in ('{"format": 0}', "{", "[]"):
        (project / "project.json").write_text(text)
        before = said(page)
        press(panel, "2. Group what was found")
        page.wait_for_function(CHANGED, arg=[before], timeout=200_000)
        assert "fault of ours" not in said(page)
        assert (project / "project.json").read_text() == text
    shutil.rmtree(project)


def test_a_wrong_name_is_a_message(page: Any, tmp_path: Path) -> None:
    panel = show(page, "inspect")
    DRIVES["inspect"](panel, tmp_path)
    panel.get_by_label("Group or find").fill("nothing")
    panel.get_by_label("Its name").fill("word")
    press(panel, "3. Give the name")
    until(page, "no group or find is called")
