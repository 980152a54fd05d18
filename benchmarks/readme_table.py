"""Write the README's table from the committed output of a bench.

python benchmarks/readme_table.py benchmarks/results/anomaly/scores.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HEADLINES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


def table(bench: dict[str, Any]) -> str:
    """Markdown: one row per category and metric, one column per method, mean ± standard deviation."""
    scores = bench["scores"]
    methods = list(scores)
    lines = ["| category | metric | " + " | ".join(methods) + " |", "|---" * (len(methods) + 2) + "|"]
    for group in scores[methods[0]]:
        for metric, name in HEADLINES.items():
            cells = [cell(scores[method][group].get(metric)) for method in methods]
            lines.append(f"| {group} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(score: dict[str, float] | None) -> str:
    """One mean, and its spread where there is more than one seed."""
    if score is None:
        return "-"
    spread = f" ± {score['std']:.3f}" if score["seeds"] > 1 else ""
    return f"{score['mean']:.3f}{spread}"


def between(text: str, task: str, new: str) -> str:
    """``text`` with what stands between the task's two markers replaced."""
    begin, end = f"<!-- bench {task}: begin -->", f"<!-- bench {task}: end -->"
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{new}\n{end}{rest.partition(end)[2]}"


def main(scores: Path) -> None:
    """Rewrite the README in place."""
    bench = json.loads(scores.read_text(encoding="utf-8"))
    readme = ROOT / "README.md"
    text = between(readme.read_text(encoding="utf-8"), bench["task"], table(bench))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
