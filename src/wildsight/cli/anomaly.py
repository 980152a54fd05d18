"""``wildsight anomaly``: fit, predict, evaluate, check, bench, methods, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wildsight.cli.options import Flag, Values, chosen
from wildsight.cli.task import COMMON, TaskCommands, source_help, task_app

app = task_app("Find what is wrong in pictures, from good ones alone.")


class AnomalyCommands(TaskCommands):
    """The oracle has to be asked for by name; what is found can be outlined."""

    def fit(self, values: Values) -> None:
        """Run ``fit``."""
        from wildsight.errors import ConfigError

        oracle = values.pop("reproduce_paper")
        if values["select"] == "test" and not oracle:
            raise ConfigError("test pictures select nothing", where="--select", hint="say --reproduce-paper")
        values["select"] = "test" if oracle else values["select"]
        super().fit(values)

    def predict(self, values: Values) -> None:
        """Run ``predict``."""
        self.refine = chosen(values, "refine", "refine_base")
        super().predict(values)

    def written(self, results: Sequence[Any], out: Path) -> None:
        """Outline what was found, where an adapter was given."""
        if "refine" in self.refine:
            from wildsight.cli.common import finish
            from wildsight.workflows.refine import write_refined

            finish(write_refined(results, self.refine["refine"], out, self.refine.get("refine_base")))

    def exported(self, estimator: Any, values: Values) -> Any:
        """The detector: pixels in, raw score and map out."""
        from wildsight.anomaly.export import export_detector, sample_pictures

        proof = sample_pictures(values["sample"] or [])
        return export_detector(estimator, values["out"], proof, tolerance=values["tolerance"])


commands = AnomalyCommands(
    task="anomaly",
    app=app,
    source=source_help("mvtec-ad:/data/mvtec"),
    fits=(
        Flag("image_size", int, None, "Side of the input square, pixels.", min=32),
        Flag("false_alarm_rate", float, None, "Share of good pictures above the limit."),
        Flag("noise_ratio", float, None, "Feature noise, relative to RMS."),
        Flag("select", str, None, "Epoch kept: last, or val (synthetic defects)."),
    ),
    fit_extras=(
        Flag(
            "reproduce_paper",
            bool,
            False,
            "Keep the best epoch ON THE TEST PICTURES: an oracle.",
            spelled="--reproduce-paper",
        ),
    ),
    predicts=(
        Flag("category", str, None, "Use this category's threshold."),
        Flag("tile", int, None, "Cut larger pictures into tiles, pixels.", min=32),
    ),
    exports=(Flag("sample", list[str], None, "Pictures to prove it on; repeat it."),),
    predict_extras=(
        Flag("refine", Path, None, "Adapter that outlines what is found."),
        Flag("refine_base", str, None, "Its base, if that folder has moved."),
    ),
)
commands.add(*COMMON, "export")
