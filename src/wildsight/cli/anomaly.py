"""``wildsight anomaly``: fit, predict, evaluate, check, bench, methods, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wildsight.cli.options import ANNOTATIONS, OUTLINE, Flag, Values, chosen
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
    predict_extras=(
        Flag("refine", Path, None, "Adapter that outlines what is found."),
        Flag("refine_base", str, None, "Its base, if that folder has moved."),
        ANNOTATIONS,
        OUTLINE,
    ),
)
commands.add(*COMMON)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder written by `wildsight anomaly fit`.")],
    out: Annotated[Path, typer.Option(help="Folder for detector.onnx and detector.json.")] = Path(
        "runs/anomaly-export"
    ),
    sample: Annotated[list[str] | None, typer.Option(help="Pictures to prove it on; repeat it.")] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference allowed from torch.")] = 1e-3,
    backbone: Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")] = None,
) -> None:
    """Write the detector as one ONNX graph (pixels in, raw score and map out), proved on pictures."""
    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.export import export_detector, sample_pictures
    from wildsight.cli.common import console

    detector = AnomalyDetector.from_pretrained(model, backbone=backbone, device="cpu")
    done = export_detector(detector, out, sample_pictures(sample or []), tolerance=tolerance)
    for line in done.lines():
        console.print(line, markup=False, soft_wrap=True, highlight=False)
