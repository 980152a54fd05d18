"""Speed of the spatial task, in one run: exact IoU against a loop of polygon clipping, and a box through the
query token against the box as text on the same model.

    python benchmarks/spatial_speed.py --backbone nano-llava --out runs/spatial-speed
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from wildsight.files import write_json
from wildsight.results import environment
from wildsight.spatial.iou3d import iou_3d

FACES = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (3, 7, 6, 2), (0, 4, 7, 3), (1, 2, 6, 5))
SIGNS = np.array([(x, y, z) for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], float)


def cpu_seconds(run: Callable[[], Any], times: int) -> float:
    """Median of the processor's seconds."""
    spent = []
    for _ in range(times):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    return statistics.median(spent)


def cut(polygon: list, normal: np.ndarray, limit: float) -> tuple[list, list]:
    out, edge = [], []
    for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        da, db = a @ normal - limit, b @ normal - limit
        if da <= 0:
            out.append(a)
        if (da <= 0) != (db <= 0):
            point = a + da / (da - db) * (b - a)
            out.append(point)
            edge.append(point)
    return out, edge


def level_pair(c1, s1, r1, c2, s2, r2) -> float:
    """Two rectangles from above, one clipped by the sides of the other, times the shared height."""
    plan = [
        c1[[0, 2]] + r1[::2][:, ::2] @ (np.array(q) * s1[[0, 2]] / 2)
        for q in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    for axis in (0, 1):
        for side in (-1, 1):
            normal = side * r2[::2][:, ::2][:, axis]
            plan, _ = cut(plan, normal, normal @ c2[[0, 2]] + s2[[0, 2]][axis] / 2)
            if not plan:
                return 0.0
    x, z = np.array(plan).T
    area = abs(np.dot(x, np.roll(z, -1)) - np.dot(z, np.roll(x, -1))) / 2
    top = min(c1[1] + s1[1] / 2, c2[1] + s2[1] / 2) - max(c1[1] - s1[1] / 2, c2[1] - s2[1] / 2)
    shared = area * max(0.0, top)
    return shared / (s1.prod() + s2.prod() - shared)


def any_pair(c1, s1, r1, c2, s2, r2) -> float:
    """A polyhedron clipped by the six planes of the other."""
    corners = (SIGNS / 2 * s1) @ r1.T + c1
    faces = [[corners[i] for i in f] for f in FACES]
    for axis in range(3):
        for side in (-1, 1):
            normal = side * r2[:, axis]
            parts = [cut(f, normal, normal @ c2 + s2[axis] / 2) for f in faces]
            faces, rim = [p for p, _ in parts if len(p) > 2], [q for _, e in parts for q in e]
            if len(rim) > 2:
                middle = np.mean(rim, axis=0)
                u = rim[0] - middle
                v = np.cross(normal, u)
                faces.append(sorted(rim, key=lambda p: np.arctan2((p - middle) @ v, (p - middle) @ u)))
            if not faces:
                return 0.0
    inside = np.mean([p for f in faces for p in f], axis=0)
    shared = sum(
        abs(np.dot(f[0] - inside, np.cross(f[i] - inside, f[i + 1] - inside))) / 6
        for f in faces
        for i in range(1, len(f) - 1)
    )
    return shared / (s1.prod() + s2.prod() - shared)


def pairs(n: int, level: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    centre, size = rng.normal(size=(2, n, 3)) * 0.5, rng.uniform(0.5, 3, (2, n, 3))
    if level:
        turns = Rotation.from_rotvec(rng.uniform(-3, 3, (2 * n, 1)) * (0, 1, 0))
    else:
        turns = Rotation.random(2 * n, random_state=0)
    rotation = turns.as_matrix().reshape(2, n, 3, 3)
    return [centre[0], size[0], rotation[0], centre[1], size[1], rotation[1]]


def iou_speed(n: int = 10_000, loop: int = 1_000) -> dict[str, Any]:
    found = {}
    for name, level, slow in (("level", True, level_pair), ("any rotation", False, any_pair)):
        rows = pairs(n, level)
        fast = cpu_seconds(lambda rows=rows: iou_3d(*rows), 5) / n
        begin = time.process_time()
        one = [slow(*(v[i] for v in rows)) for i in range(loop)]
        each = (time.process_time() - begin) / loop
        gap = float(np.abs(np.array(one) - iou_3d(*(v[:loop] for v in rows))).max())
        found[name] = {
            "microseconds a pair": fast * 1e6,
            "loop, microseconds a pair": each * 1e6,
            "times faster": each / fast,
            "largest difference": gap,
        }
    return found


def answer_speed(backbone: str, questions: int) -> dict[str, Any]:
    """Milliseconds of processor time a question: features given; the query token, and the digits."""
    from wildsight.spatial import SpatialGrounder
    from wildsight.spatial.data import world
    from wildsight.spatial.inputs import asked

    data = world(4, questions, 96, 0, (1.0,))
    samples = [s for s in data.part("test") if s.targets][:questions]
    spent = {}
    for method in ("llmi3d", "text"):
        grounder = SpatialGrounder(method, backbone)
        net: Any = grounder.method.network(grounder.mllm, grounder.eyes.channels).eval()
        batches = [asked(grounder.eyes, [grounder.eyes.of(s)], [s.expression]) for s in samples]
        if method == "text":
            ids = grounder.mllm.ids("centre 0.10 1.00 5.00 size 4.00 1.50 1.80 turn 0.30")
            run = lambda net=net, batches=batches, ids=ids: [forced(net, b, ids) for b in batches]  # noqa: E731
        else:
            run = lambda net=net, batches=batches: [net.boxes(b) for b in batches]  # noqa: E731
        spent[method] = 1000 * cpu_seconds(run, 3) / len(batches)
    return {
        "query token, ms a question": spent["llmi3d"],
        "digits as text, ms a question": spent["text"],
        "times faster": spent["text"] / spent["llmi3d"],
        "tokens of an answer as text": len(ids) + 1,
    }


@torch.no_grad()
def forced(net: Any, batch: dict[str, Any], ids: list[int]) -> None:
    """Decode greedily, with a cache, as many tokens as a box takes: an untrained model would stop early."""
    parts, _ = net.prefix(batch)
    output = net.speaker.read(parts, cache=True)
    mask = torch.cat([m for _, m in parts], 1)
    net.speaker.speak(output, mask, -1, len(ids) + 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="nano-llava")
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("runs/spatial-speed"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"iou": iou_speed(), "answer": answer_speed(options.backbone, options.questions)}
    for name, table in {**result["iou"], "answer": result["answer"]}.items():
        print(name, {k: float(f"{v:.4g}") for k, v in table.items()})
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "scores.json", {**result, "environment": environment()})


if __name__ == "__main__":
    main()
