"""``wildsight bench TASK SOURCE``: the method and its peers, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from wildsight.cli.options import BACKBONE, DEVICE, FULL_SCALE, TRAINING, Flag, argument, command

BENCH_FLAGS = (
    BACKBONE,
    Flag("method", list[str], None, "Only these, also as NAME\\[a=1] or NAME@RATE; repeat it."),
    Flag("seeds", int, None, "How many seeds, from 0.", min=1),
    DEVICE,
    FULL_SCALE,
    *TRAINING,
    Flag("image_size", int, None, "Side of the input square, pixels.", min=32),
    Flag("option", list[str], None, "name=value: any other option of the bench.", spelled="--set"),
)

UNTRAINED = frozenset(f.name for f in TRAINING if f.name != "precision") | {"image_size"}
"""What the bench of a task that trains nothing does not have."""
app = typer.Typer(add_completion=False)


def bench_flags(task: str) -> tuple[Flag, ...]:
    """The options of ``wildsight TASK bench`` beside ``--out``."""
    return tuple(f for f in BENCH_FLAGS if task != "compression" or f.name not in UNTRAINED)


def run(task: str, values: dict[str, Any]) -> None:
    """Run a task's bench and print its first tables."""
    from wildsight.cli.common import console, finish
    from wildsight.estimators.bench import run_bench
    from wildsight.estimators.registry import options_from

    folder = values.get("out") or Path("runs") / f"bench-{task}"
    given = options_from(values.pop("option") or ())
    if "out" in given:  # --out is the folder; --set out= a hyper-parameter
        given["hyper"] = {**given.get("hyper", {}), "out": given.pop("out")}
    names = {"method": "methods"}
    for flag in BENCH_FLAGS[:-1]:
        value = values.get(flag.name)  # the white of pictures is declared for the whole command
        if flag is not FULL_SCALE and value is not None and value != []:
            given[names.get(flag.name, flag.name)] = value
    _, tables = run_bench(task, values["source"], folder, **given)
    for table in tables[:3]:
        console.print(table.rich())
    finish(folder / "report.html")


command(
    app,
    "bench",
    lambda values: run(values.pop("task"), values),
    "Run a method and its peers on one source, print the table with mean and spread, and write it. What is "
    "not given takes the product's own default.",
    [
        argument("task", str, "Which task, e.g. anomaly."),
        argument("source", str, "`world`, a folder, or NAME:PATH.", "world"),
    ],
    (Flag("out", Path, None, "Folder to write; default runs/bench-TASK."), *BENCH_FLAGS),
)
