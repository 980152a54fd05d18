"""The page in a real browser, driven as a person would; skipped where no Chromium is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    import socket

    from wildsight.anomaly.source import world_folder
    from wildsight.app.server import serve

    world_folder()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blocks, url = serve(port=port, block=False)
    yield url
    blocks.close()


@pytest.fixture
def tab(address: str) -> Iterator[Any]:
    """A page opened on the address, and the addresses that it asked for."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        yield page
        browser.close()


def show(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_anomaly_samples_are_looked_at(tab: Any) -> None:
    show(tab, "anomaly")
    tab.get_by_role("button", name="Take sample pictures").click()
    panel = tab.locator("[role=tabpanel]:visible")
    panel.get_by_text("05-", exact=False).first.wait_for(timeout=200_000)
    tab.get_by_role("button", name="Look", exact=True).click()
    tab.get_by_text("of 6 pictures are anomalous").wait_for(timeout=200_000)
    assert tab.get_by_role("cell", name="ANOMALOUS").count() >= 2
    outside = [u for u in tab.asked if "127.0.0.1" not in u and not u.startswith(("data:", "blob:"))]
    assert outside == []


def test_a_file_that_is_no_picture_is_a_message(tab: Any, tmp_path: Path) -> None:
    show(tab, "anomaly")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is no picture")
    tab.locator("input[type=file]").last.set_input_files(str(broken))
    tab.get_by_text("broken", exact=False).first.wait_for()
    for _ in range(2):
        tab.get_by_role("button", name="Look", exact=True).click()
        tab.get_by_text("not read:", exact=False).first.wait_for(timeout=200_000)


def test_nothing_given_is_a_message(tab: Any) -> None:
    show(tab, "anomaly")
    tab.get_by_role("button", name="Look", exact=True).click()
    tab.get_by_text("no picture was given", exact=False).first.wait_for(timeout=200_000)


def test_every_tab_opens_with_labelled_controls(tab: Any) -> None:
    from wildsight.app.tabs import TABS

    for name in TABS:
        show(tab, name)
        panel = tab.locator("[role=tabpanel]:visible")
        panel.locator("button.primary").first.wait_for(timeout=30_000)
        assert panel.locator("strong").first.inner_text()


def test_a_box_is_outlined(tab: Any) -> None:
    show(tab, "segmentation")
    tab.get_by_role("button", name="Take a sample picture", exact=True).click()
    tab.get_by_text("00-", exact=False).first.wait_for(timeout=200_000)
    tab.get_by_role("button", name="Outline the box").click()
    tab.get_by_text("of the picture.", exact=False).first.wait_for(timeout=200_000)


def test_an_inspection_is_told_and_a_wrong_name_is_a_message(tab: Any, tmp_path: Path) -> None:
    show(tab, "inspect")
    tab.get_by_label("Project folder").fill(str(tmp_path / "project"))
    panel = tab.locator("[role=tabpanel]:visible")
    panel.get_by_role("button", name="Take sample pictures").click()
    panel.get_by_text("11-", exact=False).first.wait_for(timeout=200_000)
    panel.get_by_role("button", name="1. Look").click()
    panel.get_by_text("rejected", exact=False).first.wait_for(timeout=200_000)
    panel.get_by_label("Group or find").fill("nothing")
    panel.get_by_label("Its name").fill("word")
    panel.get_by_role("button", name="3. Give the name").click()
    tab.get_by_text("no group or find is called", exact=False).first.wait_for(timeout=200_000)


def test_a_telephone_can_read_it(tab: Any) -> None:
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
