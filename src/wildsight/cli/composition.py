"""``wildsight composition``: fit, predict, evaluate, check, bench, methods."""

from __future__ import annotations

from wildsight.cli.options import Flag, Values
from wildsight.cli.task import COMMON, TaskCommands, source_help, task_app

app = task_app("Recognise attribute-object pairs that were never seen together.")


class CompositionCommands(TaskCommands):
    """Candidates may be named one by one, or be every attribute with every object."""

    def predict(self, values: Values) -> None:
        """Run ``predict``."""
        values["pair"] = "all" if values.pop("all_pairs") else values["pair"] or None
        super().predict(values)

    def evaluate(self, values: Values) -> None:
        """Run ``evaluate``."""
        values["feasibility"] = _number(values["feasibility"])
        super().evaluate(values)


def _number(text: str | None) -> float | str | None:
    """A number where it is one."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


commands = CompositionCommands(
    task="composition",
    app=app,
    source=source_help("ut-zappos:/data/zap"),
    fits=(
        Flag("image_size", int, None, "Side of the input, pixels; 0: backbone's own.", min=0),
        Flag("calibrate", bool, None, "Set bias and limit on held-out pictures."),
        Flag("abstain", float, None, "Share of correct answers below the limit for 'none of these'."),
    ),
    predicts=(
        Flag("pair", list[str], None, "A candidate, e.g. 'wet cat'; repeat it.", to="pairs"),
        Flag("open_vocabulary", bool, None, "Allow words that were not trained."),
        Flag("top", int, None, "Best pairs to list.", min=1),
    ),
    predict_extras=(
        Flag("all_pairs", bool, False, "Every attribute with every object.", spelled="--all-pairs"),
    ),
    evaluates=(
        Flag("open_world", bool, False, "Also every attribute x object.", spelled="--open-world"),
        Flag("feasibility", str, None, "Open world: least feasibility, -1 to 1, or `validation`."),
    ),
)
commands.add(*COMMON)
