"""The page driven as a person would, tab by tab; with pictures of every tab when run as a program.

python tests/app_pages.py --out docs/assets
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT = 150_000
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 800}
BYTES = 60_000
PHONE_SHOT = "phone"


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield made
        finally:
            made.close()


@contextmanager
def served() -> Iterator[str]:
    """The address of the page, on a port that is free."""
    from wildsight.app.server import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blocks, url = serve(port=port, block=False)
    try:
        yield url
    finally:
        blocks.close()


def show(page: Any, name: str) -> Any:
    """Open a tab; returns its panel."""
    from wildsight.app.tabs import TABS

    page.get_by_role("tab", name=TABS[name].title, exact=True).click(timeout=60_000)
    panel = page.locator("[role=tabpanel]:visible")
    panel.locator("button.primary").first.wait_for(timeout=60_000)
    return panel


def press(panel: Any, name: str) -> None:
    panel.get_by_role("button", name=name, exact=True).click()


def take(panel: Any, sample: str, button: str) -> None:
    """Take a sample; the button that uses it is off until it is there."""
    page = panel.page
    panel.get_by_role("button", name=button, exact=True).evaluate(WATCHED)
    press(panel, sample)
    page.wait_for_function("window.switched && !window.watched.disabled", timeout=WAIT)


WATCHED = """button => {
  window.watched = button
  window.switched = false
  const note = () => { window.switched ||= button.disabled }
  new MutationObserver(note).observe(button, {attributes: true})
}"""


def until(panel: Any, text: str) -> None:
    """Wait for a text; a message of an error ends the waiting."""
    page = getattr(panel, "page", panel)
    wanted = panel.get_by_text(text, exact=False)
    wanted.or_(page.locator("[data-testid=toast-body]")).first.wait_for(timeout=WAIT)
    if not wanted.count():
        raise RuntimeError(page.locator("[data-testid=toast-body]").first.inner_text())
    wanted.first.wait_for(timeout=WAIT)


def anomaly(panel: Any, folder: Path) -> None:
    take(panel, "Take sample pictures", "Look")
    press(panel, "Look")
    until(panel, "of 6 pictures are anomalous")


def segmentation(panel: Any, folder: Path) -> None:
    take(panel, "Take a sample picture", "Outline the box")
    image = panel.locator("#outline img")
    image.wait_for(timeout=WAIT)
    press(panel, "Outline the box")
    until(panel, "of the picture.")


def inspect(panel: Any, folder: Path) -> None:
    panel.get_by_label("Project folder").fill(str(folder / "project"))
    take(panel, "Take sample pictures", "1. Look")
    press(panel, "1. Look")
    until(panel, "rejected")
    press(panel, "2. Group what was found")
    until(panel, "new_000")
    press(panel, "Describe it in words")
    until(panel, "finds are described")
    panel.locator(".gallery-item", has_text="new_000").first.locator("button").first.click()
    panel.page.wait_for_function(NAMED, arg=["Group or find", "new_000"], timeout=WAIT)
    panel.get_by_label("Its name").fill("crack")
    press(panel, "3. Give the name")
    until(panel, "finds are called crack")
    press(panel, "4. Learn the names")
    until(panel, "Learned: crack")


NAMED = """([label, value]) => [...document.querySelectorAll('label')].some(
  e => e.innerText.startsWith(label) && e.querySelector('input, textarea')?.value == value)"""

CHAIR = (
    ((-0.5, -1), (-0.5, 1)),
    ((-0.5, -1), (-0.2, -0.9), (-0.2, 0.1)),
    ((-0.5, 0.1), (0.5, 0.1), (0.5, 1)),
    ((-0.5, 0.1), (-0.2, 0.3), (0.8, 0.3), (0.5, 0.1)),
    ((0.8, 0.3), (0.8, 0.9)),
)
"""Strokes of the drawing: legs, back and seat."""


def retrieval(panel: Any, folder: Path) -> None:
    canvas = panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    left, top, side = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, min(box["width"], 160) / 3
    mouse = panel.page.mouse
    for corners in CHAIR:
        mouse.move(left + corners[0][0] * side, top + corners[0][1] * side)
        mouse.down()
        for x, y in corners[1:]:
            mouse.move(left + x * side, top + y * side, steps=3)
        mouse.up()
    press(panel, "Find")
    until(panel, "photos, nearest first")


def discovery(panel: Any, folder: Path) -> None:
    press(panel, "Sort")
    until(panel, "new_")


def composition(panel: Any, folder: Path) -> None:
    take(panel, "Take sample pictures", "Recognise")
    press(panel, "Recognise")
    panel.get_by_role("columnheader", name="second").first.wait_for(timeout=WAIT)


def compression(panel: Any, folder: Path) -> None:
    take(panel, "Take a sample picture and question", "Ask")
    press(panel, "Ask")
    until(panel, "full model:")


def fusion(panel: Any, folder: Path) -> None:
    press(panel, "Fuse")
    until(panel, "contributed")


def spatial(panel: Any, folder: Path) -> None:
    take(panel, "Take a sample picture and sentence", "Find it")
    press(panel, "Find it")
    until(panel, "sure to")


def continual(panel: Any, folder: Path) -> None:
    panel.get_by_label("Folder of the learner").fill(str(folder / "learner"))
    press(panel, "1. Teach the sample tasks")
    until(panel, "tasks are learned")
    take(panel, "Take a sample task", "2. Teach this task")
    press(panel, "2. Teach this task")
    until(panel, "guard, accuracy")


DRIVES: dict[str, Callable[[Any, Path], None]] = {
    f.__name__: f
    for f in (
        anomaly, segmentation, inspect, retrieval, discovery, composition, compression, fusion, spatial,
        continual,
    )
}  # fmt: skip


def picture(page: Any, file: Path) -> None:
    """The top of the page as a JPEG that is small enough for the docs."""
    page.wait_for_timeout(700)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shot = shot.crop((0, 0, shot.width, min(shot.height, 1500)))
    scale = min(1.0, 900 / shot.width)
    shot = shot.resize((round(shot.width * scale), round(shot.height * scale)), Image.Resampling.LANCZOS)
    for quality in (85, 75, 65, 55, 45, 35):
        shot.save(file, quality=quality, optimize=True)
        if file.stat().st_size <= BYTES:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of every tab, after its sample was run.")
    parser.add_argument("--out", type=Path, default=Path("docs/assets"))
    parser.add_argument("--only", nargs="*", default=[*DRIVES, PHONE_SHOT])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with served() as url, browser() as chromium, tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            page = chromium.new_page(viewport=PHONE if name == PHONE_SHOT else WIDE)
            page.goto(url)
            tab = "anomaly" if name == PHONE_SHOT else name
            DRIVES[tab](show(page, tab), Path(folder))
            picture(page, options.out / f"app-{name}.jpg")
            page.close()
            print(name, (options.out / f"app-{name}.jpg").stat().st_size, flush=True)


if __name__ == "__main__":
    main()
