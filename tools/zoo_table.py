"""Writes the documentation's table *model x task* from what the tests of the zoo declare."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- zoo: begin -->\n", "<!-- zoo: end -->\n"


def declared() -> Any:
    """The module of declarations, which `tests/zoo/test_zoo.py` holds against the code."""
    spec = importlib.util.spec_from_file_location("declared", ROOT / "tests" / "zoo" / "declared.py")
    assert spec is not None and spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table() -> str:
    """Rows of families, columns of tasks, and the refusals in full."""
    zoo = declared()
    reasons: list[str] = []

    def cell(family: str, task: str) -> str:
        words = zoo.said(family, task)
        if words == zoo.WORKS:
            return "works"
        if words not in reasons:
            reasons.append(words)
        return f"refused ({reasons.index(words) + 1})"

    head = ["family", "for example", *zoo.TASKS]
    rows = [[f, f"`{zoo.EXAMPLES[f]}`", *(cell(f, t) for t in zoo.TASKS)] for f in zoo.EXAMPLES]
    lines = [head, ["---"] * len(head), *rows]
    notes = "\n".join(f"{i}. refused, because it {why}" for i, why in enumerate(reasons, 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{notes}\n"


def page(text: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
