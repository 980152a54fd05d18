"""Frames of the embedded world for each second of one core, scene sampling included.

    OMP_NUM_THREADS=1 python benchmarks/world_speed.py [--out benchmarks/results/world-speed.csv]

The rate counts the process's own seconds, so that other work on the machine blurs it little; the wall's
rate and the machine's load stand beside it. Processes share nothing: two cores make twice as many.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from pathlib import Path

from wildsight.world.render import render
from wildsight.world.scene import random_scene
from wildsight.world.sensors import SENSORS, sense


def rgb(seed: int, size: int) -> None:
    """One RGB picture."""
    render(random_scene(seed, count=None), size)


def everything(seed: int, size: int) -> None:
    """One scene in all sensors."""
    sense(random_scene(seed, count=None), size, names=tuple(SENSORS))


def rates(work, size: int, count: int) -> tuple[float, float]:
    """Frames for a second of a core, and for a second on the wall."""
    for seed in range(10):
        work(seed, size)
    wall, own = time.perf_counter(), time.process_time()
    for seed in range(100, 100 + count):
        work(seed, size)
    return count / (time.process_time() - own), count / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/world-speed.csv"))
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    rows = []
    for name, work in (("rgb", rgb), ("all sensors", everything)):
        for size in (64, 96, 128):
            own, wall = rates(work, size, options.count * 64 // size)
            load = os.getloadavg()[0]
            rows.append([name, size, round(own), round(wall), round(load, 1)])
            line = f"{name:12} {size:4} px  {own:5.0f} a core's second  {wall:5.0f} on the wall"
            print(f"{line}  load {load:.1f}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "pixels", "frames a core's second", "frames a second on the wall", "load"])
        writer.writerows(rows)
    print(f"{platform.machine()}, {os.cpu_count()} cores -> {options.out}")


if __name__ == "__main__":
    main()
