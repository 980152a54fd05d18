"""The picture of the tour in the README: headings and first pictures of some stops, as a browser shows them.

wildsight tour --out report.html
python docs/make_tour_picture.py report.html docs/assets/tour.jpg
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

STOPS = ("anomaly", "compression", "composition", "discovery")
WIDTH, PANEL = 1000, 620
BYTES = 150_000
PLACE = """([name]) => {
  const head = [...document.querySelectorAll('h2')].find(e => e.innerText.startsWith(name + ':'));
  let shown = head;
  while (!shown.classList.contains('gallery')) shown = shown.nextElementSibling;
  const boxes = [...shown.children].map(e => e.getBoundingClientRect());
  const row = boxes.filter(b => b.top == boxes[0].top);
  const place = b => [b.top + scrollY, b.height];
  return [place(head.getBoundingClientRect()), [row[0].top + scrollY, Math.max(...row.map(b => b.height))]];
}"""


def panel(page: Any, name: str) -> Image.Image:
    """A stop's heading over the first row of its gallery."""
    (top, height), (gallery, tall) = page.evaluate(PLACE, [name])
    parts = []
    for y, h in ((top, height), (gallery, tall)):
        clip = {"x": 0, "y": y, "width": WIDTH, "height": h}
        parts.append(Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB"))
    made = Image.new("RGB", (WIDTH, sum(p.height for p in parts) + 20), "white")
    made.paste(parts[0], (0, 0))
    made.paste(parts[1], (0, parts[0].height + 8))
    return made.resize((PANEL, round(made.height * PANEL / WIDTH)), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.goto(options.report.resolve().as_uri())
        panels = [panel(page, name) for name in STOPS]
        browser.close()
    heights = [max(p.height for p in panels[i : i + 2]) for i in range(0, len(panels), 2)]
    sheet = Image.new("RGB", (2 * PANEL + 20, sum(heights)), "white")
    for number, one in enumerate(panels):
        sheet.paste(one, (number % 2 * (PANEL + 20), sum(heights[: number // 2])))
    for quality in (88, 80, 70, 60, 50):
        sheet.save(options.out, quality=quality, optimize=True)
        if options.out.stat().st_size <= BYTES:
            return


if __name__ == "__main__":
    main()
