"""What the second kind of start is worth to semi-supervised k-means, where the published one misses groups.

    python benchmarks/discovery_starts.py --rows 5000 --width 768 --groups 100 --distance 0.6 --seeds 2

Unit rows around random directions, noise of length 1 and centres of length ``--distance``; half of the groups
are known and half of their rows are labelled; three starts. Each line is a seed and a method: share of
unlabelled rows in the right group under the best match, inertia, seconds of the processor.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from wildsight.discovery.methods.kmeans import KMeans
from wildsight.discovery.methods.sskmeans import SSKMeans
from wildsight.discovery.metrics import matching

METHODS = {
    "published start": SSKMeans(n_init=3, free_starts=0),
    "better of both": SSKMeans(n_init=3),
    "no labels": KMeans(n_init=3),
}


def mixture(count: int, width: int, groups: int, distance: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows [N, d] float32 and the group of each."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(groups, width))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    true = draw.integers(0, groups, count)
    rows = centres[true] + draw.normal(size=(count, width)) / np.sqrt(width)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), true


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in (("rows", 5000), ("width", 768), ("groups", 100), ("seeds", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--distance", type=float, default=0.6)
    args = parser.parse_args()
    for seed in range(args.seeds):
        rows, true = mixture(args.rows, args.width, args.groups, args.distance, seed)
        hidden = np.random.default_rng(1).random(args.rows) < 0.5
        labels = np.where((true < args.groups // 2) & ~hidden, true, -1)
        free = labels < 0
        for name, method in METHODS.items():
            begin = time.process_time()
            found = method.group(rows, labels, args.groups)
            seconds = time.process_time() - begin
            counts = np.zeros((args.groups, args.groups), np.int64)
            np.add.at(counts, (found.groups[free], true[free]), 1)
            right = counts[matching(counts), np.arange(args.groups)].sum() / free.sum()
            print(f"seed {seed}  {name:16} {right:.3f}  {found.inertia:.1f}  {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
