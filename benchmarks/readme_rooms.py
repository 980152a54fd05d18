"""Write the README's table of the other rooms from the committed outputs of their benches.

python benchmarks/readme_rooms.py
"""

from __future__ import annotations

import json

from readme_table import ROOT, between, cell

# room, folder of results, metric and its name, group, the paper's method first
SHOWN = (
    ("segmentation", "segmentation-world", "iou", "IoU", "mean", "spt@3e-3"),
    ("segmentation", "segmentation-real", "iou", "IoU, photographs", "mean", "spt@3e-3"),
    ("retrieval", "retrieval-sketchy", "map_all", "mAP@all", "unseen", "ramln"),
    ("discovery", "discovery-tiny", "all", "All, Tiny ImageNet", "classes", "nngcd"),
    ("discovery", "discovery-cifar10", "all", "All, CIFAR-10", "classes", "nngcd"),
    ("discovery", "discovery-omniglot", "all", "All, Omniglot", "classes", "nngcd"),
    ("fusion", "fusion-world", "miou", "mIoU, 2 sensors", "rgb+depth all", "pwrf"),
    ("fusion", "fusion-world", "miou", "mIoU, 3 sensors", "rgb+depth+thermal all", "pwrf"),
    ("fusion", "fusion-world", "miou", "mIoU, 5 sensors", "rgb+depth+thermal+event+lidar all", "pwrf"),
    ("spatial", "spatial-world", "acc@0.25", "Acc@0.25, focal x0.6 to x2.5", "all", "llmi3d"),
    ("spatial", "spatial-world", "depth_error", "depth error, m", "all", "llmi3d"),
)
LOWER = ("depth_error",)  # the lower the better


def rows() -> list[str]:
    """One line per room: the paper's method, then its peers from best to worst."""
    lines = ["| room | measured | the paper's method | its peers |", "|---|---|---|---|"]
    for room, folder, metric, name, group, own in SHOWN:
        bench = json.loads((ROOT / "benchmarks" / "results" / folder / "scores.json").read_text("utf-8"))
        found = {m: groups[group][metric] for m, groups in bench["scores"].items() if group in groups}
        sign = 1 if metric in LOWER else -1
        peers = sorted((m for m in found if m != own), key=lambda m: sign * found[m]["mean"])
        told = ", ".join(f"{m} {cell(found[m])}" for m in peers)
        seeds = found[own]["seeds"]
        what = f"{name}, {bench['source'].split(':')[0]}, {seeds} seed{'s' if seeds > 1 else ''}"
        lines.append(f"| {room} | {what} | {own} {cell(found[own])} | {told} |")
    return lines


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = between(readme.read_text(encoding="utf-8"), "rooms", "\n".join(rows()))
    readme.write_text(text, encoding="utf-8")
