"""``wildsight methods TASK``: names, parameters and defaults."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer


def methods(task: Annotated[str, typer.Argument(help="Which task, e.g. anomaly.")]) -> None:
    """List the methods of a task with their parameters and defaults."""
    from wildsight.cli.common import console
    from wildsight.estimators.registry import hyper_names
    from wildsight.estimators.tasks import resolve, task_named
    from wildsight.results import Table

    kind = resolve(task_named(task).estimator)
    rows = []
    for name, method in kind.methods.items():
        defaults = {f.name: f.default for f in fields(method)}
        own = ", ".join(f"{n}={defaults[n]}" for n in hyper_names(method))
        rows.append([name, getattr(method, "title", name), own])
    console.print(Table(["method", "title", "parameters (--set name=value)"], rows).rich())
