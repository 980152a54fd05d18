"""How long until the page's first tab can be used, and until one picture is answered in it.

    python benchmarks/app_speed.py --out benchmarks/results/app-speed

`wildsight app` is started as a process of its own and driven in a headless Chromium: first the sample
pictures (the detector learns then), after that one picture at a time, from the click to the verdict.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from app_pages import DRIVES, WIDE, browser, press, show
from wildsight.files import write_json
from wildsight.results import environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/app-speed"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    port, load = free_port(), os.getloadavg()[0]
    with browser() as chromium:
        begin = time.perf_counter()
        server = subprocess.Popen([sys.executable, "-m", "wildsight.cli", "app", "--port", str(port)])
        try:
            while not reachable(port):
                time.sleep(0.05)
            page = chromium.new_page(viewport=WIDE)
            page.goto(f"http://127.0.0.1:{port}")
            panel = show(page, "anomaly")
            panel.get_by_role("button", name="Look", exact=True).wait_for()
            usable = time.perf_counter() - begin
            DRIVES["anomaly"](panel, work)
            answers = [_seconds(panel, _sample(work, n)) for n in range(options.repeats)]
        finally:
            server.terminate()
            server.wait()
    found = {
        "seconds until the first tab is usable": round(usable, 2),
        "seconds per picture, median": round(statistics.median(answers), 3),
        "seconds per picture": [round(a, 3) for a in answers],
        "one-minute load before": round(load, 1),
        "environment": environment(),
    }
    write_json(options.out / "scores.json", found)
    print(found)


def _seconds(panel: Any, file: Path) -> float:
    """From the click on the button to the verdict on one picture."""
    panel.get_by_label("Clear").first.click()
    panel.locator("input[type=file]").last.set_input_files(str(file))
    panel.get_by_text(file.stem).first.wait_for()
    begin = time.perf_counter()
    press(panel, "Look")
    panel.get_by_role("cell", name=file.name).wait_for()
    return time.perf_counter() - begin


def _sample(folder: Path, number: int) -> Path:
    """A defective part under a name of its own, so that its verdict is told apart from the one before."""
    from wildsight.anomaly.data import world_folder
    from wildsight.world.products import CATEGORIES

    parts = sorted((world_folder() / CATEGORIES[1] / "test").glob("*/*.png"))
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(parts[-1 - number], folder / f"part-{number}.png"))


if __name__ == "__main__":
    main()
