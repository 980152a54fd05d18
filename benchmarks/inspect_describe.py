"""How far the words of `wildsight inspect describe` can be trusted: accuracy on new drawn defects.

python benchmarks/inspect_describe.py --out benchmarks/results/inspect-describe

Every method is taught twice on the lesson that `describe` uses: on all pairs of state and product, and with a
quarter of them held out. Tested on four new crops of each pair; candidates are all pairs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from wildsight.composition import CompositionRecognizer
from wildsight.files import digest_of
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.workflows.inspect.describing import STATES, Pair, draw_pair, training_set
from wildsight.world.products import CATEGORIES

METHODS = [
    ("hdaoe", "nano-conv"), ("product", "nano-conv"),
    ("hdaoe", "nano-clip"), ("zeroshot", "nano-clip"),
]  # fmt: skip
COUNT, SEED = 4, 7


def hidden(pair: Pair) -> bool:
    """A quarter of the pairs, by hash."""
    return int(digest_of(list(pair)), 16) % 4 == 0


def rows_of(method: str, backbone: str, files: list[Path], held: bool, seed: int) -> list[dict[str, Any]]:
    recognizer = CompositionRecognizer(method, backbone, seed=seed)
    recognizer.fit(str(training_set(held_out=hidden if held else None)), progress=False)
    found = recognizer.predict_files(files, pairs="all", top=1)[0]
    rows = []
    for group in ("taught", "held out") if held else ("taught",):
        part = [r for r in found if (hidden(pair_of(r.image)) and held) == (group == "held out")]
        hits = [(r.attribute == pair_of(r.image)[0], r.object == pair_of(r.image)[1]) for r in part]
        state, product, both = (sum(h) / len(hits) for h in (*zip(*hits, strict=True), map(all, hits)))
        rows.append({
            "method": method, "backbone": backbone, "seed": seed,
            "lesson": "three quarters" if held else "all", "pairs": group,
            "crops": len(hits), "state": state, "product": product, "both": both,
        })  # fmt: skip
    return rows


def pair_of(file: Path) -> Pair:
    return file.parent.parent.name, file.parent.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for defect in STATES:
            for product in CATEGORIES:
                draw_pair(Path(folder), defect, product, SEED, COUNT)
        files = sorted(Path(folder).glob("*/*/*.png"))
        for method, backbone in METHODS:
            for held in (False, True):
                for seed in range(options.seeds if method != "zeroshot" else 1):
                    rows += rows_of(method, backbone, files, held, seed)
                    print(rows[-1], flush=True)
    run = RunFolder(options.out)
    write_csv(run.results, rows)
    run.write_scores({"rows": rows, "environment": environment()})
    print(Table(list(rows[0]), [list(r.values()) for r in rows]).markdown())


if __name__ == "__main__":
    main()
