"""PWRF with one part changed at a time, on the world's RGB, depth and thermal; one seed.

    python benchmarks/fusion_ablations.py --out benchmarks/results/fusion-ablations

Variants that are done are kept under ``--out`` and not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from wildsight.files import read_json, write_json
from wildsight.fusion import FusionSegmenter
from wildsight.fusion.bench import loss_without
from wildsight.fusion.data import without, world
from wildsight.fusion.inputs import Store
from wildsight.results import environment, write_csv

SENSORS = ("rgb", "depth", "thermal")
VARIANTS: dict[str, dict[str, Any]] = {
    "PWRF": {},
    "1 iteration": {"iters": 1},
    "2 iterations": {"iters": 2},
    "T = 4": {"T": 4},
    "T = 16": {"T": 16},
    "C = 4": {"C": 4},
    "C = 16": {"C": 16},
    "A = 32": {"A": 32},
    "rows alone": {"axes": "rows"},
    "columns alone": {"axes": "columns"},
    "shared alone": {"streams": "shared"},
    "specific alone": {"streams": "specific"},
    "constant coefficients": {"coefficient": "constant"},
    "coefficients by agreement": {"coefficient": "agreement"},
    "routed sum": {"fine": "routed sum"},
    "no routing": {"routed": False, "coefficient": "constant"},
    "2-D routing": {"axes": "cells"},  # of maps of 8 x 8 and 4 x 4; the finest scale is concatenated
}


def measured(variant: str, epochs: int, seed: int, store: Store) -> dict[str, Any]:
    """Scores of one variant with all sensors, and how far they fall when one is missing."""
    hyper = dict(VARIANTS[variant])
    data = world().with_modalities(SENSORS)
    segmenter = FusionSegmenter("pwrf", hyper=hyper, fine=hyper.pop("fine", None), seed=seed, store=store)
    segmenter.fit(data, epochs=epochs)
    rows = [{**row, "group": row["condition"]} for row in segmenter.evaluate(data).rows]
    for name in SENSORS:
        rows.append({**segmenter.evaluate(without(data, name)).overall, "group": f"missing:{name}"})
    fall = loss_without(rows, "miou")["miou"]
    scores = {row["group"]: row["miou"] for row in rows}
    return {"variant": variant, "seed": seed, "epochs": epochs, **scores, "fall when one is missing": fall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/fusion-ablations"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    store, rows = Store(), []
    for number, variant in enumerate(VARIANTS):
        file = given.out / "cells" / f"{number}-{given.epochs}-{given.seed}.json"
        if not file.is_file():
            write_json(file, measured(variant, given.epochs, given.seed, store))
        rows.append(read_json(file))
        print(rows[-1], flush=True)
    write_csv(given.out / "results.csv", rows)
    write_json(given.out / "scores.json", {"rows": rows, "environment": environment()})


if __name__ == "__main__":
    main()
