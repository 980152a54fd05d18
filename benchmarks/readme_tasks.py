"""Write the README's tables of the other tasks and of the nano checkpoints.

python benchmarks/readme_tasks.py

The tasks come from the committed outputs of their benches, the checkpoints from what their training left.
"""

from __future__ import annotations

import csv
import json
import statistics
from typing import Any

from readme_table import ROOT, between

# task, folder of results, metric and its name, group, the paper's method first
SHOWN = (
    ("segmentation", "segmentation-world", "iou", "IoU, world", "mean", "spt@3e-3"),
    ("segmentation", "segmentation-real", "iou", "IoU, photographs", "mean", "spt@3e-3"),
    (
        "composition",
        "composition-sweep",
        "auc",
        "AUC, world, 5 % of pairs held out",
        "5% held out",
        "hdaoe",
    ),
    (
        "composition",
        "composition-sweep",
        "auc",
        "AUC, world, 40 % of pairs held out",
        "40% held out",
        "hdaoe",
    ),
    ("retrieval", "retrieval-sketchy", "map_all", "mAP@all, Sketchy, unseen classes", "unseen", "ramln"),
    ("discovery", "discovery-tiny", "all", "All, Tiny ImageNet", "classes", "nngcd"),
    ("discovery", "discovery-cifar10", "all", "All, CIFAR-10", "classes", "nngcd"),
    ("discovery", "discovery-omniglot", "all", "All, Omniglot", "classes", "nngcd"),
    ("continual", "continual-world", "transfer", "Transfer, %, world's six tasks", "order 1", "mulki"),
    ("continual", "continual-world", "avg", "Avg, %, world's six tasks", "order 1", "mulki"),
    ("continual", "continual-world", "last", "Last, %, world's six tasks", "order 1", "mulki"),
    ("continual", "continual-real", "transfer", "Transfer, %, six real tasks", "order 1", "mulki"),
    ("continual", "continual-real", "last", "Last, %, six real tasks", "order 1", "mulki"),
    ("fusion", "fusion-world", "miou", "mIoU, world, 2 sensors", "rgb+depth all", "pwrf"),
    ("fusion", "fusion-world", "miou", "mIoU, world, 3 sensors", "rgb+depth+thermal all", "pwrf"),
    ("fusion", "fusion-world", "miou", "mIoU, world, 5 sensors", "rgb+depth+thermal+event+lidar all", "pwrf"),
    ("fusion", "fusion-crack", "miou", "mIoU, real cracks, 3 sensors", "rgb+depth+thermal all", "pwrf"),
    ("spatial", "spatial-world", "acc@0.25", "Acc@0.25, world, focal x0.6 to x2.5", "all", "llmi3d"),
    ("spatial", "spatial-world", "depth_error", "depth error, m, same", "all", "llmi3d"),
    ("compression", "compression-world", "accuracy", "accuracy, 36 of 144 tokens", "36 tokens", "vtc-cls"),
    ("compression", "compression-world", "accuracy", "accuracy, 9 of 144 tokens", "9 tokens", "vtc-cls"),
    ("compression", "compression-world", "accuracy", "accuracy, 0.3 of the cache", "cache 0.3", "prefixkv"),
)
LOWER = ("depth_error",)  # the lower the better
PERCENT = ("transfer", "avg", "last")


def values(folder: str, metric: str, group: str) -> dict[str, list[float]]:
    """Method -> one metric of one group, a value per seed."""
    found: dict[str, list[float]] = {}
    with (ROOT / "benchmarks" / "results" / folder / "results.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["group"] == group and row.get(metric):
                found.setdefault(row["method"], []).append(float(row[metric]))
    return found


def cell(found: list[float], digits: int) -> str:
    """The mean, and its spread where there is more than one seed."""
    spread = f" ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.{digits}f}{spread}"


def tasks() -> list[str]:
    """One line per claim: the paper's method, then its peers from best to worst."""
    lines = ["| task | measured | the paper's method | its peers |", "|---|---|---|---|"]
    for task, folder, metric, name, group, own in SHOWN:
        found = values(folder, metric, group)
        sign, digits = 1 if metric in LOWER else -1, 1 if metric in PERCENT else 3
        peers = sorted((m for m in found if m != own), key=lambda m: sign * statistics.mean(found[m]))
        told = ", ".join(f"{m} {cell(found[m], digits)}" for m in peers)
        lines.append(f"| {task} | {name} | {own} {cell(found[own], digits)} | {told} |")
    return lines


def card(name: str) -> dict[str, Any]:
    """What the training of a shipped checkpoint left."""
    file = ROOT / "src" / "wildsight" / "backbones" / "nano" / name / "training.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def checkpoints() -> list[str]:
    """One line per score of a nano checkpoint on held-out seeds, with what was wanted of it."""
    conv, clip, llava, sam = (card(f"nano-{n}") for n in ("conv", "clip", "llava", "sam"))
    share = statistics.mean(probe["share"] for probe in conv["probe"].values())
    unseen, first = clip["scores"]["pairs never seen"], clip["scores"]["caption to picture, first of 100"]
    seen, blind = (llava["scores"][f"{w} the picture"]["all"] for w in ("with", "without"))
    rows = [
        (
            "nano-conv",
            conv,
            "linear probe, share of the way from random to MobileNetV2",
            share,
            "0.60",
        ),
        ("nano-clip", clip, "attribute-object pairs never trained, of 64", unseen["pair"], "0.08"),
        ("nano-clip", clip, "the shape of those", unseen["shape"], "0.80"),
        ("nano-clip", clip, "caption to picture, first of 100", first["level 2"], "0.60"),
        ("nano-llava", llava, "600 questions of six kinds", seen, "0.80"),
        ("nano-llava", llava, "the same with the picture's tokens at zero", blind, "far below"),
        ("nano-sam", sam, "IoU of the outline in a box", sam["scores"]["box"], "0.85"),
    ]
    lines = ["| checkpoint | million parameters | score | measured | wanted |", "|---|---|---|---|---|"]
    return lines + [f"| {n} | {c['parameters'] / 1e6:.1f} | {s} | {v:.3f} | {w} |" for n, c, s, v, w in rows]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = between(readme.read_text(encoding="utf-8"), "tasks", "\n".join(tasks()))
    readme.write_text(between(text, "nano", "\n".join(checkpoints())), encoding="utf-8")
