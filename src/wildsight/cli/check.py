"""``wildsight check TASK SOURCE``: every problem of a data set, before any training starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer


def check(
    task: Annotated[str, typer.Argument(help="Which task, e.g. anomaly.")],
    source: Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH.")],
    full_scale: Annotated[float | None, typer.Option(help="White of pictures of more than 8 bits.")] = None,
) -> None:
    """Name every problem found in SOURCE; exit code 1 if there is any."""
    from wildsight.estimators import resolve, task_named
    from wildsight.images import scaled

    with scaled(full_scale):
        report(resolve(task_named(task).check)(source), source)


def report(problems: Sequence[Any], source: str) -> None:
    """Print problems; exit code 1 if there is any."""
    from wildsight.cli.common import console, skipped

    for problem in problems:
        console.print(f"{problem.file}: {problem.what}; {problem.hint}", markup=False, soft_wrap=True)
    for line in skipped([source]):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"{len(problems)} problem{'' if len(problems) == 1 else 's'} in {source}", markup=False)
    if problems:
        raise typer.Exit(1)
