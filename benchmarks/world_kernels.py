"""How many pixels of the world differ between processors: the same scenes, one process for each kernel.

    python benchmarks/world_kernels.py [--scenes 60] [--size 96] [--out benchmarks/results/world-kernels.csv]

numpy chooses its BLAS kernels and its vector units by processor. ``OPENBLAS_CORETYPE`` chooses another
kernel, ``NPY_DISABLE_CPU_FEATURES`` takes vector units away, each in a process of its own. A kernel that
this processor cannot run is left out. Compared with the first kernel: the share of pixels with another value,
and of those with a value more than two levels away, of 8 bits.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]
KERNELS = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX", "Cooperlake")
WIDE = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
UNITS = {"no AVX-512": WIDE, "no AVX2": f"{WIDE} AVX2 FMA3 X86_V3"}  # under the first kernel
LEVELS = 2


def drawn(count: int, size: int) -> dict[str, Pictures]:
    """Pictures [N, size, size, C] of every kind the world draws."""
    from wildsight.world.drawing import sketch
    from wildsight.world.portraits import portrait
    from wildsight.world.products import CATEGORIES, DEFECTS, render_product
    from wildsight.world.render import render
    from wildsight.world.scene import random_scene
    from wildsight.world.sensors import sense
    from wildsight.world.shapes3d import SOLIDS

    shapes = tuple(SOLIDS)

    def product(seed: int) -> Pictures:
        category, defect = CATEGORIES[seed % len(CATEGORIES)], DEFECTS[seed // 7 % len(DEFECTS)]
        return render_product(category, seed, defect=defect, size=size).image

    def sensors(seed: int) -> Pictures:
        inputs = sense(random_scene(seed, count=None), size).inputs
        return np.concatenate([(v * 255 + 0.5).astype(np.uint8) for v in inputs.values()], -1)

    kinds: dict[str, Callable[[int], Pictures]] = {
        "scenes": lambda seed: render(random_scene(seed, count=None, shapes=shapes), size).rgb,
        "portraits": lambda seed: render(portrait(seed, shape=shapes[seed % 20]), size).rgb,
        "products": product,
        "sensors": sensors,
        "sketches": lambda seed: sketch(portrait(seed, shape=shapes[seed % 20]), size),
    }
    return {name: np.stack([draw(seed) for seed in range(count)]) for name, draw in kinds.items()}


def draw_apart(settings: dict[str, str], count: int, size: int, folder: Path) -> dict[str, Pictures] | None:
    """The pictures as a process with other settings draws them; None where it cannot run."""
    file = folder / "pictures.npz"
    file.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--scenes", str(count), "--size", str(size), "--draw", str(file)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **settings}, capture_output=True, check=False
    )
    if done.returncode:
        return None
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


def shares(one: Pictures, two: Pictures) -> tuple[float, float]:
    """Shares of pixels that differ at all, and by more than `LEVELS` in any channel."""
    gap = np.abs(one.astype(np.int16) - two).max(-1)
    return float((gap > 0).mean()), float((gap > LEVELS).mean())


def compare(count: int, size: int) -> list[list[str]]:
    """A row for each kernel and kind: shares of pixels."""
    runs = {name: {"OPENBLAS_CORETYPE": name} for name in KERNELS}
    runs |= {
        name: {"OPENBLAS_CORETYPE": KERNELS[0], "NPY_DISABLE_CPU_FEATURES": units}
        for name, units in UNITS.items()
    }
    rows: list[list[str]] = []
    first: dict[str, Pictures] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in runs.items():
            pictures = draw_apart(settings, count, size, Path(folder))
            if pictures is None:
                print(f"{name}: cannot run here")
                continue
            first = first or pictures
            for kind, values in pictures.items():
                differing, beyond = shares(first[kind], values)
                rows.append([name, kind, f"{differing:.6f}", f"{beyond:.6f}"])
                print(f"{name:12} {kind:10} {differing:.6f} differ  {beyond:.6f} by more than {LEVELS}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/world-kernels.csv"))
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw is not None:
        np.savez(options.draw, **drawn(options.scenes, options.size))
        return
    rows = compare(options.scenes, options.size)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        header = ["kernel", "what", "share of pixels that differ", f"by more than {LEVELS} levels"]
        writer.writerows([header, *rows])


if __name__ == "__main__":
    main()
