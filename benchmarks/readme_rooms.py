"""Write the README's table of the other rooms from the committed outputs of their benches.

    python benchmarks/readme_rooms.py
"""

from __future__ import annotations

import json

from readme_table import ROOT, between, cell

# room, folder of results, metric and its name, group, the paper's method first
SHOWN = (
    ("segmentation", "segmentation-world", "iou", "IoU", "mean", "spt@3e-3"),
    ("retrieval", "retrieval-sketchy", "map_all", "mAP@all", "unseen", "ramln"),
    ("fusion", "fusion-world-1-seed", "miou", "mIoU", "rgb+depth+thermal all", "pwrf"),
)


def rows() -> list[str]:
    """One line per room: the paper's method, then its peers from best to worst."""
    lines = ["| room | measured | the paper's method | its peers |", "|---|---|---|---|"]
    for room, folder, metric, name, group, own in SHOWN:
        bench = json.loads((ROOT / "benchmarks" / "results" / folder / "scores.json").read_text("utf-8"))
        found = {m: groups[group][metric] for m, groups in bench["scores"].items() if group in groups}
        peers = sorted((m for m in found if m != own), key=lambda m: -found[m]["mean"])
        told = ", ".join(f"{m} {cell(found[m])}" for m in peers)
        seeds = found[own]["seeds"]
        what = f"{name}, {bench['source'].split(':')[0]}, {seeds} seed{'s' if seeds > 1 else ''}"
        lines.append(f"| {room} | {what} | {own} {cell(found[own])} | {told} |")
    return lines


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = between(readme.read_text(encoding="utf-8"), "rooms", "\n".join(rows()))
    readme.write_text(text, encoding="utf-8")
