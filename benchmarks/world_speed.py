"""Frames a second of the embedded world, scene sampling included.

    OMP_NUM_THREADS=1 python benchmarks/world_speed.py [--out benchmarks/results/world-speed.csv]

One process on one thread, then as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from wildsight.world.render import render
from wildsight.world.scene import random_scene
from wildsight.world.sensors import SENSORS, sense


def rgb(first: int, count: int, size: int) -> float:
    """Wall seconds of ``count`` RGB pictures."""
    begin = time.perf_counter()
    for seed in range(first, first + count):
        render(random_scene(seed, count=None), size)
    return time.perf_counter() - begin


def everything(first: int, count: int, size: int) -> float:
    """Wall seconds of ``count`` frames in all sensors."""
    begin = time.perf_counter()
    for seed in range(first, first + count):
        sense(random_scene(seed, count=None), size, names=tuple(SENSORS))
    return time.perf_counter() - begin


def rates(work, size: int, count: int, workers: int) -> tuple[float, float]:
    """Frames a second of one process, and of ``workers`` together."""
    work(0, 10, size)
    alone = count / work(100, count, size)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(work, [0] * workers, [10] * workers, [size] * workers))
        begin = time.perf_counter()
        list(pool.map(work, [1000 * (i + 1) for i in range(workers)], [count] * workers, [size] * workers))
        together = workers * count / (time.perf_counter() - begin)
    return alone, together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/world-speed.csv"))
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    rows = []
    for name, work in (("rgb", rgb), ("all sensors", everything)):
        for size in (64, 96, 128):
            alone, together = rates(work, size, options.count * 64 // size, workers)
            rows.append([name, size, round(alone), workers, round(together)])
            print(
                f"{name:12} {size:4} px  one process {alone:6.0f}/s  {workers} processes {together:6.0f}/s",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "pixels", "per second, one process", "processes", "per second, together"])
        writer.writerows(rows)
    print(f"{platform.machine()}, {workers} cores, load {os.getloadavg()[0]:.1f} at the end -> {options.out}")


if __name__ == "__main__":
    main()
