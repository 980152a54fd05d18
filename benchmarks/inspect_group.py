"""Which method `wildsight inspect group` sorts best with: finds of drawn parts, whose defects are known.

python benchmarks/inspect_group.py --out benchmarks/results/inspect-group

Per product: a detector on 24 good pictures, 8 new ones of each of four defects, one grouping per method, 20
epochs for those that train. Accuracy is that of the best one-to-one match between groups and defects, over
the finds; nothing is named beforehand.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from wildsight.images import from_array
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.workflows.inspect import Project, group, look, start
from wildsight.world.products import render_product

DEFECTS = ("stain", "crack", "missing_part", "foreign_texture")
SIZE, GOOD, NEW = 64, 24, 8
SHORT = {"epochs": 20}
METHODS: dict[str, dict[str, int]] = {"sskmeans": {}, "kmeans": {}, "nngcd": SHORT, "simgcd": SHORT}


def draw(folder: Path, product: str, defect: str | None, first: int, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        drawn = from_array(render_product(product, seed, defect=defect, size=SIZE).image)
        drawn.save(folder / f"{seed}.png")


def accuracy(project: Project) -> float:
    finds = project.finds()
    groups = sorted({row["group"] for row in project.groups.values()})
    table = np.zeros((len(groups), len(DEFECTS)))
    for find, row in project.groups.items():
        table[groups.index(row["group"]), DEFECTS.index(Path(finds[find].file).parent.name)] += 1
    return float(table[linear_sum_assignment(-table)].sum() / len(finds))


def rows_of(root: Path, product: str, backbone: str) -> list[dict[str, Any]]:
    draw(root / "good" / "normal", product, None, 0, GOOD)
    for number, defect in enumerate(DEFECTS):
        draw(root / "new" / defect, product, defect, 500 + 100 * number, NEW)
    project = start(root / "line", str(root / "good"), false_alarm_rate=0.1, progress=False)
    look(project, [root / "new"])
    rows = []
    for method, training in METHODS.items():
        for k in ("auto", len(DEFECTS) + 1) if method == "sskmeans" else (len(DEFECTS) + 1,):
            began = time.perf_counter()
            count = group(project, k=k, method=method, backbone=backbone, **training)
            rows.append({
                "product": product, "finds": len(project.finds()), "method": method, "k": k, "groups": count,
                "accuracy": accuracy(project), "seconds": time.perf_counter() - began,
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--products", nargs="*", default=["washer", "bolt", "tile"])
    parser.add_argument("--backbone", default="nano-clip")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for product in options.products:
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(Path(folder), product, options.backbone)
    run = RunFolder(options.out)
    write_csv(run.results, rows)
    run.write_scores({"rows": rows, "backbone": options.backbone, "environment": environment()})
    print(Table(list(rows[0]), [list(r.values()) for r in rows]).markdown())


if __name__ == "__main__":
    main()
