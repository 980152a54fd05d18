"""MulKI's candidates for defaults on the first task alone: its classes are cut into tasks of their own.

    python benchmarks/continual_defaults.py SOURCE [SOURCE ...] --out FOLDER [--parts 3] [--seeds 5]

Of every source only the training pictures of its first task are read. Four fifths of each class are learned,
one fifth tests; the classes, dealt anew for each seed, make ``--parts`` tasks in a row. Candidates are ranked
by Avg, the mean over sources and seeds. Cells that are done are kept under ``--out`` and not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.continual import TaskData, TaskSequence
from wildsight.continual.bench import ContinualBench
from wildsight.continual.data import read_source
from wildsight.files import write_json
from wildsight.results import environment, spread, write_csv

NO_RELATIONS = {"b": 0.0, "c": 0.0, "d": 0.0}
SPECIFIED = {"a": 5.0, "b": 0.25, "c": 0.25, "d": 0.25}
CANDIDATES: dict[str, dict[str, Any]] = {
    "specification": {},
    "uniform weights": {"weights": "uniform"},
    "previous teacher alone": {"weights": "prev_only"},
    "no relations": NO_RELATIONS,
    "no relations, uniform weights": {**NO_RELATIONS, "weights": "uniform"},
    "no relations, a = 2": {**NO_RELATIONS, "a": 2.0},
    "no relations, a = 1": {**NO_RELATIONS, "a": 1.0},
    "a = 1": {"a": 1.0},
    "no features": {"a": 0.0},
    "no features, uniform weights": {"a": 0.0, "weights": "uniform"},
    "no features, alpha = 1": {"a": 0.0, "alpha": 1.0},
    "no features, half the relations": {"a": 0.0, "b": 0.125, "c": 0.125, "d": 0.125},
    "no features, twice the relations": {"a": 0.0, "b": 0.5, "c": 0.5, "d": 0.5},
    "no features, c = 1": {"a": 0.0, "b": 0.0, "c": 1.0, "d": 0.0},
    "nothing kept": {**NO_RELATIONS, "a": 0.0},
    "l2 = 0.5": {"l2": 0.5},
    "l2 = 0.25": {"l2": 0.25},
    "no CSA": {"l1": 0.0},
    "l1 = 2": {"l1": 2.0},
    "alpha = 1": {"alpha": 1.0},
    "alpha = 0.6": {"alpha": 0.6},
    "no running mean": {"avg_freq": 0},
    "no running mean, alpha = 0.5": {"avg_freq": 0, "alpha": 0.5},
}
PEERS = ("finetune", "wise-ft", "lwf", "zscl")
METRICS = ("transfer", "avg", "last", "forgetting")


def dealt(task: TaskData, parts: int, seed: int) -> TaskSequence:
    """The classes of a task as ``parts`` tasks; a fifth of each class's training pictures tests."""
    rng = np.random.default_rng(seed)
    tasks = []
    for number, group in enumerate(np.array_split(rng.permutation(len(task.classes)), parts)):
        names = tuple(task.classes[i] for i in group)
        learned, held = [], []
        for label, old in enumerate(group):
            pictures = [p for p, y in task.train if y == old]
            order = [pictures[i] for i in rng.permutation(len(pictures))]
            cut = max(1, len(order) // 5)
            held += [(p, label) for p in order[:cut]]
            learned += [(p, label) for p in order[cut:]]
        tasks.append(
            TaskData(f"part {number + 1}", names, task.templates, tuple(learned), tuple(held), task.root)
        )
    return TaskSequence(tuple(tasks), "task", f"{task.name}, dealt {seed}", {"dealt": seed})


def measured(source: str, seed: int, parts: int, out: Path, budget: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every peer and candidate on one dealing of one source."""
    sequence = dealt(read_source(source).tasks[0], parts, seed)
    runs: list[tuple[str, str, dict[str, Any]]] = [(name, name, {}) for name in PEERS]
    runs += [(name, "mulki", {**SPECIFIED, **hyper}) for name, hyper in CANDIDATES.items()]
    rows = []
    for name, method, hyper in runs:
        options = {"methods": [method], "seeds": 1, "hyper": hyper, "progress": False, **budget}
        result = ContinualBench(sequence, out=out, **options).run()
        scores = {metric: result.rows[0][metric] for metric in METRICS}
        rows.append({"candidate": name, "source": Path(source).name, "dealt": seed, **scores})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=48)
    given = parser.parse_args()
    budget = {"epochs": given.epochs, "image_size": given.image_size}
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for source in given.sources:
            rows += measured(source, seed, given.parts, given.out, budget)
        print(f"dealing {seed + 1} of {given.seeds} is done", flush=True)
    names = list(dict.fromkeys(r["candidate"] for r in rows))
    table = [
        {"candidate": n, **{m: spread([r[m] for r in rows if r["candidate"] == n])[0] for m in METRICS}}
        for n in names
    ]
    table.sort(key=lambda r: -r["avg"])
    facts = {**budget, "parts": given.parts, "dealings": given.seeds, "ranked by": "avg"}
    write_csv(given.out / "results.csv", rows)
    write_json(given.out / "scores.json", {"facts": facts, "table": table, "environment": environment()})
    for row in table:
        print(f"{row['candidate']:32}", *(f"{m} {row[m]:5.1f}" for m in METRICS))


if __name__ == "__main__":
    main()
