"""Speed and memory of the routing against the votes tensor, and of the whole head against cross-attention.

    python benchmarks/fusion_routing.py --out benchmarks/results/fusion-routing

One thread, medians over repeats; memory is the peak that the calls allocate, seen by torch's own profiler.
The naive routing repeats poses and weights, multiplies them 4 x 4 by 4 x 4 and keeps all votes, as published.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wildsight.files import write_json
from wildsight.fusion.methods.concatenation import Concatenation
from wildsight.fusion.methods.cross_attention import CrossAttention
from wildsight.fusion.methods.pwrf import PWRF
from wildsight.fusion.routing import route
from wildsight.results import environment, write_csv

PARTS, WHOLES = 24, 8
NAMES = ("naive_fwd", "fused_fwd", "naive_both", "fused_both")


def naive(poses: Tensor, a: Tensor, weight: Tensor, beta_u: Tensor, beta_a: Tensor) -> tuple[Tensor, ...]:
    """Published form: all votes from repeated operands, every intermediate kept."""
    n, parts, wholes = poses.shape[0], *weight.shape[:2]
    left = poses.view(n, parts, 1, 4, 4).repeat(1, 1, wholes, 1, 1)
    right = weight[None].repeat(n, 1, 1, 1, 1)
    V = torch.matmul(left, right).view(n, parts, wholes, 16)
    R = V.new_full((n, parts, wholes), 1.0 / wholes)
    for t in range(3):
        Q = R * a[..., None]
        S = Q.sum(1, keepdim=True)
        w = (Q / (S + 1e-8))[..., None]
        mu = (w * V).sum(1, keepdim=True)
        s2 = (w * (V - mu) ** 2).sum(1, keepdim=True) + 1e-8
        cost = (beta_u.view(1, wholes, 1) + s2[:, 0].sqrt().log()) * S[:, 0, :, None]
        a_out = torch.sigmoid(1e-3 * (beta_a - cost.sum(2)))
        if t < 2:
            log_p = -((V - mu) ** 2) / (2 * s2) - s2.sqrt().log() - 0.5 * math.log(2 * math.pi)
            R = (log_p.sum(3) + a_out[:, None].log()).softmax(2)
    return mu[:, 0], a_out, R


def operands(n: int, parts: int, wholes: int) -> list[Tensor]:
    torch.manual_seed(0)
    tensors = [
        torch.randn(n, parts, 16),
        torch.rand(n, parts),
        torch.randn(parts, wholes, 4, 4),
        torch.zeros(wholes),
        torch.zeros(wholes),
    ]
    return [t.requires_grad_() for t in tensors]


def forward(function: Callable[..., Any], given: list[Tensor]) -> None:
    with torch.no_grad():
        function(*given)


def both(function: Callable[..., Any], given: list[Tensor]) -> None:
    outs = function(*given)[:3]
    torch.autograd.grad(sum(out.sum() for out in outs), given)


def milliseconds(calls: list[Callable[[], None]], repeats: int) -> list[float]:
    """Median time of each call, interleaved so that a busy moment meets all of them."""
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(repeats + 2):
        for call, kept in zip(calls, taken, strict=True):
            begin = time.process_time()
            call()
            if number >= 2:
                kept.append(1e3 * (time.process_time() - begin))
    return [statistics.median(kept) for kept in taken]


def peak_megabytes(call: Callable[[], None]) -> float:
    """Most memory that the call holds above what was there, from the profiler's allocations in order."""
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    held = peak = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def routing_rows(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for side, batch in ((12, 4), (24, 4), (48, 1), (48, 4), (48, 16)):
        given = operands(side * batch, PARTS, WHOLES)
        calls = [lambda f=f, m=m, g=given: m(f, g) for m in (forward, both) for f in (naive, route)]
        ms, mb = milliseconds(calls, repeats), [peak_megabytes(call) for call in calls]
        rows.append(
            {
                "side": side,
                "batch": batch,
                "votes_mb": side * batch * PARTS * WHOLES * 64 / 2**20,
                **{f"{name}_ms": value for name, value in zip(NAMES, ms, strict=True)},
                **{f"{name}_mb": value for name, value in zip(NAMES, mb, strict=True)},
                "time_fwd": ms[1] / ms[0],
                "time_both": ms[3] / ms[2],
                "memory_fwd": mb[1] / mb[0],
                "memory_both": mb[3] / mb[2],
            }
        )
        print({k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
    return rows


def head_rows(repeats: int) -> list[dict[str, Any]]:
    """Whole fusion modules, three modalities of 256 channels to 128, one picture."""
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {
        "pwrf": PWRF(A=32).on(256, 3, 128).module(),
        "cross-attention": CrossAttention().on(256, 3, 128).module(),
        "concatenation": Concatenation().on(256, 3, 128).module(),
        "released": PWRF.released().module(),
    }
    rows = []
    for side in (12, 24, 48):
        xs = [torch.randn(1, 256, side, side, requires_grad=True) for _ in range(3)]

        def run(name: str, xs: list[Tensor] = xs) -> tuple[Tensor, ...]:
            return modules[name].train()(xs).maps

        def infer(name: str) -> None:
            with torch.no_grad():
                run(name)

        def learn(name: str, xs: list[Tensor] = xs) -> None:
            torch.autograd.grad(sum(m.sum() for m in run(name)), xs)

        forward_ms = milliseconds([lambda n=n: infer(n) for n in modules], repeats)
        both_ms = milliseconds([lambda n=n: learn(n) for n in modules], repeats)
        row: dict[str, Any] = {"side": side}
        for name, f, b in zip(modules, forward_ms, both_ms, strict=True):
            row |= {f"{name}_fwd_ms": f, f"{name}_both_ms": b}
        row["fwd_against_cross_attention"] = row["pwrf_fwd_ms"] / row["cross-attention_fwd_ms"]
        row["both_against_cross_attention"] = row["pwrf_both_ms"] / row["cross-attention_both_ms"]
        rows.append(row)
        print({k: round(v, 3) for k, v in row.items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/fusion-routing"))
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = routing_rows(given.repeats)
    heads = head_rows(max(3, given.repeats // 3))
    write_csv(given.out / "routing.csv", rows)
    write_csv(given.out / "heads.csv", heads)
    write_json(given.out / "scores.json", {"routing": rows, "heads": heads, "environment": environment()})


if __name__ == "__main__":
    main()
