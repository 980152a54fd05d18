"""Notebooks from the examples: ``examples/NAME.py`` in percent form gives ``examples/notebooks/NAME.ipynb``.

    python docs/make_notebooks.py

A cell begins with ``# %%``; with ``[markdown]`` behind it, its lines are text behind ``# ``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MARK = re.compile(r"^# %%(.*)$", re.MULTILINE)


def cells(text: str) -> list[tuple[str, str]]:
    """(``markdown`` or ``code``, text) of every cell.

    >>> cells("# %% [markdown]\\n# # Title\\n# %%\\nprint(1)\\n")
    [('markdown', '# Title'), ('code', 'print(1)')]
    """
    parts = MARK.split(text)[1:]
    found = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            found.append(("markdown", "\n".join(lines)))
        else:
            found.append(("code", body.strip()))
    return found


def notebook(text: str) -> dict[str, Any]:
    """The notebook (format 4.5) of an example."""
    made = []
    for number, (kind, body) in enumerate(cells(text)):
        cell: dict[str, Any] = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": body.splitlines(keepends=True),
        }
        made.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    facts = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": facts, "nbformat": 4, "nbformat_minor": 5}


def written(text: str) -> str:
    """The notebook as it stands in its file."""
    return json.dumps(notebook(text), indent=1, ensure_ascii=False) + "\n"


def sources() -> list[Path]:
    """The examples in percent form."""
    return [f for f in sorted(EXAMPLES.glob("*.py")) if MARK.search(f.read_text(encoding="utf-8"))]


def main() -> None:
    """Write every notebook."""
    for source in sources():
        target = EXAMPLES / "notebooks" / f"{source.stem}.ipynb"
        target.parent.mkdir(exist_ok=True)
        target.write_text(written(source.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
