"""``wildsight bench TASK SOURCE``: the method and its peers, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def bench(
    task: Annotated[str, typer.Argument(help="Which task, e.g. anomaly.")],
    source: Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH.")] = "world",
    backbone: Annotated[str | None, typer.Option(help="Hub id, local folder or nano-*.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods; repeat it.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from 0.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every trained method.")] = None,
    image_size: Annotated[int | None, typer.Option(min=32, help="Side of the input square, pixels.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    option: Annotated[list[str] | None, typer.Option("--set", help="Another of the task's options.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default runs/bench-TASK.")] = None,
) -> None:
    """Run a method and its peers on one source, print the table with mean and spread, and write it.

    What is not given takes the task's own default. `--set name=value` gives an option that only this
    task has.
    """
    from wildsight.cli.common import console, finish, pairs
    from wildsight.workflows.bench import run_bench

    folder = out or Path("runs") / f"bench-{task}"
    options: dict[str, Any] = {
        "backbone": backbone,
        "methods": method or None,
        "seeds": seeds,
        "epochs": epochs,
        "image_size": image_size,
        "precision": precision,
        **pairs(option),
    }
    given = {name: value for name, value in options.items() if value is not None}
    _, tables = run_bench(task, source, folder, **given)
    for table in tables[:3]:
        console.print(table.rich())
    finish(folder / "report.html")
