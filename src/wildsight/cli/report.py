"""``wildsight report diff A B``: what changed between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Compare what runs left.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Compare what runs left."""


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="Folder of a run, or its scores.json.")],
    second: Annotated[Path, typer.Argument(help="Folder of another run.")],
    out: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
) -> None:
    """Print the scores that moved and the settings that differ; exit code 1 if any score moved."""
    from wildsight.cli.common import console, finish
    from wildsight.workflows.compare import compare, write_comparison

    result = compare(first, second)
    moved = result.moved.rows
    if moved:
        console.print(result.moved.rich())
    if result.changes.rows:
        console.print(result.changes.rich())
    console.print(result.summary, markup=False)
    if out is not None:
        finish(write_comparison(result, str(first), str(second), out))
    if moved:
        raise typer.Exit(1)
