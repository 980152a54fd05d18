"""``wildsight continual``: fit (also called update), predict, evaluate, check, bench, methods."""

from __future__ import annotations

from typing import Any

import typer

from wildsight.cli.options import Flag, Values
from wildsight.cli.task import COMMON, TaskCommands, source_help, task_app

app = task_app("Teach one CLIP new tasks, break nothing it knew.")
REFUSED = 3


class ContinualCommands(TaskCommands):
    """A sequence of tasks is learned; where the guard set refuses one, the exit code says so."""

    def add_update(self) -> None:
        """``update SOURCE``: the same as ``fit``."""
        self.add_fit("update")

    def sorted(self, values: Values, flags: Any) -> Any:
        """As for every task; the scenario is the source's own, a refused task is reported."""
        from wildsight.continual.data import read_source

        options = super().sorted(values, flags)
        self.sequence = read_source(values["source"])
        options.settings.setdefault("scenario", self.sequence.scenario)
        options.training.setdefault("precision", "fp32")
        options.fit["strict"] = False
        return options

    def data(self, values: Values) -> Any:  # noqa: ARG002
        """The sequence, which was read to know its scenario."""
        return self.sequence

    def after_fit(self, estimator: Any) -> list[str]:
        """What became of every task."""
        return [f"{u.task}: {_state(u)}" for u in estimator.updates]

    def fit(self, values: Values) -> Any:
        """Run ``fit``; exit code 3 where the guard set refused a task."""
        estimator = super().fit(values)
        if any(not u.accepted for u in estimator.updates):
            raise typer.Exit(REFUSED)
        return estimator


def _state(update: Any) -> str:
    if update.resumed:
        return "learned before"
    return "learned" if update.accepted else f"refused: {update.reason}"


commands = ContinualCommands(
    task="continual",
    app=app,
    source=source_help("mtil:/data"),
    fits=(
        Flag("guard", str, None, "Probe tasks that are never trained on: `world` or a folder."),
        Flag("max_drop", float, None, "Points that the guard set may lose.", min=0),
        Flag(
            "repeat",
            bool,
            False,
            "Allow class names (prompts) that an earlier task taught.",
            spelled="--repeat",
        ),
        Flag("image_size", int, None, "Side of the input, pixels; 0: backbone's own.", min=0),
    ),
    predicts=(
        Flag("task", str, None, "Only the classes of this learned task."),
        Flag("name", list[str], None, "A candidate of your own; repeat it.", to="classes"),
        Flag("top", int, 1, "Best answers to list.", min=1),
    ),
    evaluates=(Flag("scenario", str, None, "task or class; the source's own by default."),),
)
commands.add("fit", "update", *COMMON[1:])
