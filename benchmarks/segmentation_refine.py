"""From a detector's heat map to outlines, without any oracle: raw-map masks against refined masks.

    python benchmarks/segmentation_refine.py --detector runs/anomaly/checkpoint \
        --adapters runs/bench-segmentation/adapters --source mvtec-ad:DATA --out runs/refine

The detector's own boxes prompt every adapter that a segmentation bench left, and stock SAM.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from wildsight.anomaly import AnomalyDetector
from wildsight.results import RunFolder, environment, score_table, write_csv
from wildsight.segmentation import AnomalySegmenter
from wildsight.segmentation.data import read_source
from wildsight.workflows.refine import detect, score_refinement

METRICS = ("iou", "boundary_iou", "overlap", "recall")


def rows_of(method: str, seed: int, table: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Rows of a bench: one per group, with the metrics of raw or refined masks."""
    return [
        {"method": method, "seed": seed, "group": r["category"], "found": r["found"]}
        | {m: r[f"{kind}_{m}"] for m in METRICS}
        for r in table
    ]


def main() -> None:
    """Print a table per metric and write the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--backbone", help="the detector's backbone, if its folder has moved")
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--base", default="nano-sam")
    parser.add_argument("--source", default="world")
    parser.add_argument("--out", type=Path, default=Path("runs/segmentation-refine"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    detector = AnomalyDetector.from_pretrained(given.detector, backbone=given.backbone)
    found = detect(detector, read_source(given.source))
    rows: list[dict[str, Any]] = []
    stock = score_refinement(found, AnomalySegmenter("zero-shot", given.base))
    rows += rows_of("heat map alone", 0, stock, "raw") + rows_of("zero-shot", 0, stock, "refined")
    for folder in sorted(p for p in given.adapters.iterdir() if p.is_dir()):
        method, _, seed = folder.name.rpartition("-seed")
        table = score_refinement(found, AnomalySegmenter.from_pretrained(folder, backbone=given.base))
        rows += rows_of(method, int(seed), table, "refined")
    for metric in METRICS:
        print(score_table(rows, metric).markdown(), end="\n\n")
    run = RunFolder(given.out)
    run.write_scores({"source": given.source, "rows": rows, "environment": environment()})
    write_csv(run.results, rows)


if __name__ == "__main__":
    main()
