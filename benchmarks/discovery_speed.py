"""Time and memory of the discovery task: clustering of 100,000 features, distances, a training step.

python benchmarks/discovery_speed.py cluster --rows 100000
python benchmarks/discovery_speed.py distances
python benchmarks/discovery_speed.py step
python benchmarks/discovery_speed.py kmeans --rows 20000 --width 64 --k 100
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from wildsight.discovery.clustering import nearest
from wildsight.discovery.methods.kmeans import kmeans
from wildsight.discovery.methods.nngcd import NNGCD, GCDHead, total_loss
from wildsight.discovery.methods.sskmeans import SSKMeans, ss_kmeans
from wildsight.discovery.partial_finetune import BlockTail


def best_of(run: Callable[[], object], times: int = 3) -> float:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return min(found)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def features(count: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around random directions, float32, made in blocks; half of the first classes labelled."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(classes, width)).astype(np.float32)
    true = draw.integers(0, classes, count)
    rows = np.empty((count, width), np.float32)
    for start in range(0, count, 10_000):
        part = slice(start, start + 10_000)
        rows[part] = centres[true[part]] + 2 * draw.standard_normal((len(true[part]), width), np.float32)
        rows[part] /= np.linalg.norm(rows[part], axis=1, keepdims=True)
    return rows, np.where((true < classes // 2) & (draw.random(count) < 0.5), true, -1)


def cluster(count: int, width: int, k: int, n_init: int, max_iter: int) -> dict[str, float]:
    """The whole semi-supervised k-means."""
    rows, labels = features(count, width, k)
    before = peak_gib()
    begin = time.perf_counter()
    found = ss_kmeans(rows, labels, k, SSKMeans(n_init=n_init, max_iter=max_iter))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_gib": peak_gib(), "gib_before": before, "inertia": found.inertia}


def distances(width: int, k: int) -> dict[str, float]:
    """Nearest centres against the reference's broadcast form, and an iteration against scikit-learn's."""
    from sklearn.cluster import KMeans

    rows, _ = features(20_000, width, k)
    part, centres = rows[:512], rows[-k:]

    def broadcast() -> object:
        return ((part[:, None] - centres[None]) ** 2).sum(-1).argmin(1)

    reference = best_of(broadcast, 2) / len(part)
    ours = best_of(lambda: nearest(rows, centres)) / len(rows)
    free = np.full(len(rows), -1)
    from wildsight.discovery.methods.sskmeans import _lloyd

    def iterate(n: int) -> float:
        return best_of(lambda: _lloyd(rows, free, centres, SSKMeans(max_iter=n, tol=0.0)), 2)

    def theirs(n: int) -> float:
        return best_of(lambda: KMeans(k, init=centres, n_init=1, max_iter=n, tol=0.0).fit(rows), 2)

    own, other = (iterate(12) - iterate(2)) / 10, (theirs(12) - theirs(2)) / 10
    return {
        "reference_us_per_row": reference * 1e6,
        "ours_us_per_row": ours * 1e6,
        "times_faster": reference / ours,
        "iteration_seconds": own,
        "sklearn_iteration_seconds": other,
        "of_sklearn": own / other,
    }


def plain(count: int, width: int, k: int, n_init: int, seeds: int = 3) -> dict[str, float]:
    """The method `kmeans` and scikit-learn's, the same rows, starts of their own, in turns."""
    from sklearn.cluster import KMeans

    rows, _ = features(count, width, k)
    free = np.full(count, -1)
    ours, theirs = SSKMeans(n_init=n_init), {"n_init": n_init, "max_iter": 100}
    times: dict[str, list[float]] = {"own": [], "sklearn": []}
    totals: dict[str, list[float]] = {"own": [], "sklearn": []}
    for seed in range(seeds):
        for name in times:
            begin = time.process_time()
            if name == "own":
                totals[name].append(kmeans(rows, free, k, ours, seed=seed).inertia)
            else:
                totals[name].append(KMeans(k, random_state=seed, **theirs).fit(rows).inertia_)
            times[name].append(time.process_time() - begin)
    found = {f"{name}_cpu_seconds": float(np.median(values)) for name, values in times.items()}
    return found | {f"{name}_inertia": float(np.mean(values)) for name, values in totals.items()}


def step(batch: int) -> dict[str, float]:
    """A training step of ViT-B/16: cached tokens, against the recipe's two passes through the backbone."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    model = ViTModel(ViTConfig(), add_pooling_layer=False).eval().requires_grad_(False)
    tail = BlockTail(model.layers[-1], model.layernorm, False, 768)
    head = GCDHead(tail, 768, 200, NNGCD())
    pixels = torch.randn(2 * batch, 3, 224, 224)
    labels, seen = torch.zeros(batch, dtype=torch.int64), torch.arange(batch) % 2 == 0

    def below() -> torch.Tensor:
        with torch.no_grad():
            return model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]

    def learn(tokens: torch.Tensor) -> None:
        head.zero_grad()
        total_loss(head, head(tokens), labels, seen, 0.0)["loss"].backward()

    def recipe() -> None:
        tokens = below()
        learn(tokens)
        nn.Module.__call__(tail, below())  # the teacher's pass, which the released code repeats

    kept = below()
    cached, once, twice = best_of(lambda: learn(kept)), best_of(lambda: learn(below()), 2), best_of(recipe, 2)
    return {
        "cached_seconds": cached,
        "one_pass_seconds": once,
        "recipe_seconds": twice,
        "times_faster": twice / cached,
        "images": batch,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["cluster", "distances", "step", "kmeans"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--n-init", type=int, default=10)
    parser.add_argument("--max-iter", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    if given.what == "cluster":
        found = cluster(given.rows, given.width, given.k, given.n_init, given.max_iter)
    elif given.what == "distances":
        found = distances(given.width, given.k)
    elif given.what == "kmeans":
        found = plain(given.rows, given.width, given.k, given.n_init)
    else:
        found = step(given.batch)
    print(json.dumps({name: round(value, 4) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
