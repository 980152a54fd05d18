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

    entry, rows = task_named(task), []
    registries = [resolve(place) for place in entry.registries] or [resolve(entry.estimator).methods]
    for name, method in (item for registry in registries for item in registry.items()):
        defaults = {f.name: f.default for f in fields(method)}
        own = ", ".join(f"{n}={defaults[n]}" for n in hyper_names(method))
        title = getattr(method, "title", name)
        rows.append([name, title if isinstance(title, str) else name, own])
    console.print(Table(["method", "title", "parameters (--set name=value)"], rows).rich())
