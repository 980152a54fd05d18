"""``wildsight bench ROOM SOURCE``: the method and its peers, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def bench(
    room: Annotated[str, typer.Argument(help="Which room, e.g. anomaly.")],
    source: Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH.")] = "world",
    backbone: Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")] = "nano-conv",
    method: Annotated[list[str] | None, typer.Option(help="Only these methods; repeat it.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every trained method.")] = 30,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the input square, pixels.")] = 224,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "bf16",
    out: Annotated[Path | None, typer.Option(help="Folder to write; default runs/bench-ROOM.")] = None,
) -> None:
    """Run a method and its peers on one source, print the table with mean and spread, and write it."""
    from wildsight.cli.common import console, finish
    from wildsight.workflows.bench import run_bench

    folder = out or Path("runs") / f"bench-{room}"
    options: dict[str, Any] = {
        "backbone": backbone,
        "seeds": seeds,
        "epochs": epochs,
        "image_size": image_size,
        "precision": precision,
    }
    if method:
        options["methods"] = method
    _, tables = run_bench(room, source, folder, **options)
    for table in tables[:3]:
        console.print(table.rich())
    finish(folder / "report.html")
