"""HDA-OE and its peers on the embedded world, with more and more of the pairs never trained.

    python benchmarks/composition_sweep.py --out runs/composition-sweep

Held out are 5, 10, 25 and 40 % of the 64 pairs; finished cells are kept, a stopped run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from wildsight.composition.bench import CompositionBench
from wildsight.composition.data import world_folder
from wildsight.results import RunFolder, environment, score_table, write_csv

SHARES = (0.05, 0.1, 0.25, 0.4)
METHODS = ("hdaoe", "hdaoe-base", "troika", "compcos", "csp", "product", "zeroshot")
METRICS = ("auc", "hm")


def main() -> None:
    """Print a table per metric and write the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--method", action="append", help=f"default: {', '.join(METHODS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/composition-sweep"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for share in SHARES:
        result = CompositionBench(
            str(world_folder(held_out=share)), out=given.out, methods=given.method or METHODS,
            seeds=given.seeds, epochs=given.epochs, calibrate=False,
        ).run()  # fmt: skip
        rows += [{**row, "group": f"{share:.0%} held out"} for row in result.rows]
        facts = {k: v for k, v in result.facts.items() if k != "source" and not k.startswith("protocol")}
    for metric in METRICS:
        print(score_table(rows, metric).markdown(), end="\n\n")
    run = RunFolder(given.out)
    run.write_scores({"source": "world", "facts": facts, "rows": rows, "environment": environment()})
    write_csv(run.results, rows)


if __name__ == "__main__":
    main()
