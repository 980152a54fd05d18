"""`wildsight inspect` on real tiles: a first day that is named and taught, a second one that is answered.

    python benchmarks/inspect_tiles.py DATA --backbone MODEL_FOLDER --out benchmarks/results/inspect-tiles

DATA is the folder `magnetic_tile` of an anomaly set (`train/good`, `test/KIND`). Day one: 20 good tiles and
13 of each kind of defect; every group of finds gets the name of its commonest kind. Day two: 10 others that
are good and 8 others of each kind. Scored: who was rejected, how many finds of day two got the right name.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from wildsight.images import list_images
from wildsight.results import RunFolder, environment
from wildsight.workflows.inspect import Project, group, learn, look, name, start

FIRST, SECOND = {"good": 20}, {"good": 10}
EACH_FIRST, EACH_SECOND = 13, 8


def days(root: Path) -> tuple[list[Path], list[Path]]:
    """The pictures of both days."""
    first: list[Path] = []
    second: list[Path] = []
    for kind in sorted(p for p in (root / "test").iterdir() if p.is_dir()):
        files = list_images(kind)
        cut = FIRST.get(kind.name, EACH_FIRST)
        first += files[:cut]
        second += files[cut : cut + SECOND.get(kind.name, EACH_SECOND)]
    return first, second


def kinds(project: Project) -> dict[str, str]:
    """Find -> the kind of its picture."""
    return {find: Path(looked.file).parent.name for find, looked in project.finds().items()}


def name_groups(project: Project) -> int:
    """Every group gets the name of its commonest kind; returns how many groups there are."""
    truth, groups = kinds(project), defaultdict(list)
    for find, row in project.groups.items():
        groups[row["group"]].append(find)
    for label, finds in groups.items():
        commonest = Counter(truth[f] for f in finds).most_common(1)[0][0]
        if label != commonest:
            name(project, label, commonest)
    return len(groups)


def rejected(project: Project, files: list[Path]) -> dict[str, int]:
    """How many good and defective tiles stand above the threshold, before anybody's word."""
    over = {Path(looked.file).name: looked.anomalous for looked in project.looked.values()}
    count = {"good": 0, "defective": 0}
    for file in files:
        count["good" if file.parent.name == "good" else "defective"] += over[file.name]
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, nargs="*", default=[0], help="passes of `learn`; 0: its own")
    given = parser.parse_args()
    first, second = days(given.data)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        line, source = Path(folder) / "line", str(given.data)
        project = start(line, source, backbone=given.backbone, false_alarm_rate=0.05, progress=False)
        look(project, first, batch="day one")
        before, groups = set(project.finds()), group(project)
        name_groups(project)
        look(project, second, batch="day two")
        for epochs in given.epochs:
            learn(project, again=bool(rows), progress=False, **({"epochs": epochs} if epochs else {}))
            truth, answers = kinds(project), project.answers
            new = [f for f in truth if f not in before]
            said = Counter((truth[f], str(answers[f]["name"])) for f in new)
            rows.append({
                "epochs": epochs or "default", "groups": groups, "names": sorted(set(project.names.values())),
                "finds of day one": len(before), "finds of day two": len(new),
                "right": sum(n for (a, b), n in said.items() if a == b),
                "said": {f"{a} called {b}": n for (a, b), n in sorted(said.items())},
            })  # fmt: skip
            print(rows[-1], flush=True)
        facts = {"day one": len(first), "rejected of day one": rejected(project, first)}
        facts |= {"day two": len(second), "rejected of day two": rejected(project, second)}
    print(facts)
    RunFolder(given.out).write_scores({"rows": rows, "facts": facts, "environment": environment()})


if __name__ == "__main__":
    main()
