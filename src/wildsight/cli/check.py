"""``wildsight check ROOM SOURCE``: every problem of a data set, before any training starts."""

from __future__ import annotations

from typing import Annotated

import typer


def check(
    room: Annotated[str, typer.Argument(help="Which room, e.g. anomaly.")],
    source: Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH.")],
) -> None:
    """Name every problem found in SOURCE; exit code 1 if there is any."""
    from wildsight.cli.common import console
    from wildsight.task import resolve
    from wildsight.task import room as find

    problems = resolve(find(room).check)(source)
    for problem in problems:
        console.print(f"{problem.file}: {problem.what}; {problem.mend}", markup=False, soft_wrap=True)
    console.print(f"{len(problems)} problem{'' if len(problems) == 1 else 's'} in {source}", markup=False)
    if problems:
        raise typer.Exit(1)
