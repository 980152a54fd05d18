"""Make what this folder keeps: data sets, backbones, checkpoints, their predictions, bench rows and curves.

    PYTHONPATH=CODE/src:tests python tests/regression/make.py [sets] [backbones] [checkpoints] [rows]

Without a word it makes all. CODE is the code that is to be remembered. What is committed was made by the code
of the first release (commit f047f9e, whose checkpoints say "room" where later ones say "task"), and is to be
made again only for a change of results that is meant, and said in the changelog.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from regression.backbones import BACKBONES
from regression.drawings import SETS
from regression.witness import BENCHES, HERE, WITNESSES, at_home, bench_rows, losses, rows_of, source


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def plain(value: Any) -> Any:
    """JSON's form of a number, a word or a row; what is not a number is None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(v) for v in value) if isinstance(value, list) else json.dumps(value)
    file.write_text(f"[\n{rows}\n]\n" if isinstance(value, list) else f"{rows}\n", encoding="utf-8")


def sets() -> None:
    for task, draw in SETS.items():
        draw(fresh(HERE / "sets" / task))


def backbones() -> None:
    for name, build in BACKBONES.items():
        build(fresh(HERE / "backbones" / name))


def checkpoints() -> None:
    for task, witness in WITNESSES.items():
        folder = fresh(HERE / "checkpoints" / task)
        model = witness.fit()
        model.save_pretrained(folder)
        write(HERE / "stored" / f"{task}-losses.json", plain(losses(task, model)))
        model = witness.load(folder)
        np.savez_compressed(HERE / "stored" / f"{task}.npz", **witness.predict(model))
        write(HERE / "stored" / f"{task}-rows.json", plain(rows_of(model.evaluate(source(task)))))


def rows() -> None:
    for task in BENCHES:
        with tempfile.TemporaryDirectory() as out:
            write(HERE / "stored" / f"{task}-bench.json", plain(bench_rows(task, Path(out))))


STEPS = {"sets": sets, "backbones": backbones, "checkpoints": checkpoints, "rows": rows}


def main(names: list[str]) -> None:
    with at_home(), tempfile.TemporaryDirectory() as cache:
        os.environ["WILDSIGHT_CACHE"] = cache
        for name in names or list(STEPS):
            STEPS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
