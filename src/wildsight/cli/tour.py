"""``wildsight tour``: everything on the embedded world, one report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tour(
    out: Annotated[Path, typer.Option(help="The report to write.")] = Path("report.html"),
    work: Annotated[Path, typer.Option(help="Folder for what the stops leave.")] = Path("runs/tour"),
    only: Annotated[list[str] | None, typer.Option(help="Only these stops; repeat it.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter budgets.")] = False,
) -> None:
    """Run every method on the embedded world; exit code 1 if a stop failed."""
    from wildsight.cli.common import console, finish
    from wildsight.workflows.tour import tour as run

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    outcomes = run(out, work=work, only=tuple(only or ()), quick=quick, say=say)
    finish(out)
    if any(o.error for o in outcomes):
        raise typer.Exit(1)
