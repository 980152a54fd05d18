"""Speed and memory of the open world: factors and blocks against the naive product, equal scores.

    python benchmarks/composition_open.py --out benchmarks/results/composition-open

The naive form keeps [pictures, pairs, dims], as a broadcast cosine does; memory is the peak that the calls
allocate, seen by torch's own profiler; times are medians of CPU
seconds, one thread. Also: a training step with and without data synthesis.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wildsight.composition.methods.hdaoe import HDAOE
from wildsight.composition.modules import Factors, LabelledBatch, Space
from wildsight.composition.openworld import feasibility, stream_top
from wildsight.composition.synthesis import Partners
from wildsight.files import write_json
from wildsight.results import environment, write_csv

WORDS = (250, 400)
DIM = 128
DEPTH = 3


def naive(factors: Factors, pairs: Tensor, seen: Tensor, prototypes: Tensor) -> tuple[Tensor, ...]:
    """Every score at once, from a product of [pictures, pairs, dims]."""
    if factors.code is None or factors.attribute is None or factors.object is None:
        raise TypeError("needs all three factors")
    score = (factors.code[:, None] * prototypes[None]).sum(-1)
    score = score + factors.attribute[:, pairs[:, 0]] + factors.object[:, pairs[:, 1]]
    one, two = (
        score.masked_fill(~seen, -torch.inf).topk(DEPTH),
        score.masked_fill(seen, -torch.inf).topk(DEPTH),
    )
    return one.values, one.indices, two.values, two.indices


def peak(call: Callable[[], Any]) -> int:
    """Bytes at the highest point of what ``call`` allocates."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as watch:
        call()
    live = highest = 0
    for event in sorted(watch.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    return highest


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median CPU time of this one thread: other work on the machine does not count."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def open_world(pictures: int, repeats: int) -> dict[str, Any]:
    """100,000 pairs: streamed against naive."""
    g = torch.Generator().manual_seed(0)
    n_a, n_o = WORDS
    pairs = torch.cartesian_prod(torch.arange(n_a), torch.arange(n_o))
    prototypes = F.normalize(torch.randn(len(pairs), DIM, generator=g), dim=-1)
    code = F.normalize(torch.randn(pictures, DIM, generator=g), dim=-1)
    factors = Factors(code, torch.rand(pictures, n_a, generator=g), torch.rand(pictures, n_o, generator=g))
    seen = torch.rand(len(pairs), generator=g) < 0.02

    def quick() -> tuple[Tensor, ...]:
        return stream_top(factors, pairs, seen, lambda part: prototypes[part], depth=DEPTH)

    def slow() -> tuple[Tensor, ...]:
        return naive(factors, pairs, seen, prototypes)

    one, two = quick(), slow()
    gap = max(float((a - b).abs().max()) for a, b in ((one[0], two[0]), (one[2], two[2])))
    times, sizes = [seconds(f, repeats) for f in (slow, quick)], [peak(f) for f in (slow, quick)]
    return {
        "what": f"open world, {len(pairs)} pairs, {pictures} pictures, {DIM} dims",
        "naive": times[0],
        "ours": times[1],
        "times faster": times[0] / times[1],
        "naive MB": sizes[0] / 1e6,
        "ours MB": sizes[1] / 1e6,
        "times smaller": sizes[0] / sizes[1],
        "largest difference": gap,
    }


def feasible(repeats: int) -> dict[str, Any]:
    """Feasibility of C-GQA's grid: vectorised alone, the triple loop would take minutes."""
    g = torch.Generator().manual_seed(2)
    words = torch.randn(413, 300, generator=g), torch.randn(674, 300, generator=g)
    seen = torch.stack(
        [torch.randint(413, (5592,), generator=g), torch.randint(674, (5592,), generator=g)], 1
    )
    return {"what": "feasibility, 413 x 674", "ours": seconds(lambda: feasibility(*words, seen), repeats)}


def step(repeats: int, level: str) -> dict[str, Any]:
    """A training step with data synthesis against the same step without."""
    torch.manual_seed(0)
    seen = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    labels = torch.randint(100, (1500,))
    features = torch.randn(1500, 512)
    names = tuple(map(str, range(10))), tuple(map(str, range(10)))
    base = F.normalize(torch.randn(100, 512), dim=-1)
    space = Space(512, torch.randn(10, 512), torch.randn(10, 512), seen, base, 20.0, 1500, names)
    head = HDAOE(mix_level=level).head(space).train()  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(head.parameters())
    partners, index = Partners(features, labels, seen), torch.arange(128)
    g = torch.Generator().manual_seed(0)

    def once(synthesis: bool) -> None:
        drawn = partners.draw(index, g) if synthesis else None
        optimiser.zero_grad()
        head(LabelledBatch(features[index], labels[index], drawn))["loss"].backward()
        optimiser.step()

    for on in (False, True):
        once(on)
    pairs = [(seconds(lambda: once(False), 1), seconds(lambda: once(True), 1)) for _ in range(repeats)]
    plain, mixed = (statistics.median(p[i] for p in pairs) for i in (0, 1))
    return {
        "what": f"training step, batch 128, 512 dims, mixed at {level} level",
        "without": plain,
        "with": mixed,
        "with / without": mixed / plain,
        "mean over a run": (2 / 3 + 1 / 3 * (0.5 + 0.5 * mixed / plain)),
    }


def _row(what: str, times: list[float], gap: float) -> dict[str, Any]:
    ratio = times[0] / times[1]
    return {
        "what": what,
        "naive": times[0],
        "ours": times[1],
        "times faster": ratio,
        "largest difference": gap,
    }


def main() -> None:
    """Measure everything and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/composition-open"))
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [open_world(given.pictures, given.repeats), feasible(given.repeats)]
    rows += [step(20, level) for level in ("encoding", "feature")]
    write_csv(given.out / "results.csv", rows)
    write_json(given.out / "scores.json", {"rows": rows, "environment": environment()})
    for row in rows:
        print(", ".join(f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
