"""``wildsight anomaly``: fit, predict, evaluate, check, bench, methods, threshold, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wildsight.cli.options import ANNOTATIONS, OUTLINE, OVERLAY, Flag, Values
from wildsight.cli.task import COMMON, ExportingCommands, source_help, task_app

app = task_app("Find what is wrong in pictures, from good ones alone.")


class AnomalyCommands(ExportingCommands):
    """The oracle has to be asked for by name; what is found can be outlined."""

    def fit(self, values: Values) -> None:
        """Run ``fit``."""
        from wildsight.errors import ConfigError

        oracle = values.pop("reproduce_paper")
        if values["select"] == "test" and not oracle:
            raise ConfigError("test pictures select nothing", where="--select", hint="say --reproduce-paper")
        values["select"] = "test" if oracle else values["select"]
        super().fit(values)

    outlines: Any = None
    """Where what is found is outlined; None where no adapter was given."""

    def predict(self, values: Values) -> None:
        """Run ``predict``."""
        if values["refine"] is not None:
            from wildsight.workflows.refine import Outlines

            self.outlines = Outlines(values["refine"], values["out"], values["refine_base"])
        super().predict(values)

    def answered(self, answer: Any, out: Path) -> None:  # noqa: ARG002
        """Outline what was found."""
        for result in answer.results if self.outlines is not None else ():
            self.outlines.add(result)

    def written(self, out: Path) -> None:  # noqa: ARG002
        """The page of the outlines."""
        if self.outlines is not None:
            from wildsight.cli.common import finish

            finish(self.outlines.finish())

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
        Flag("calibration", float, None, "Share of good pictures held out.", spelled="--hold-out"),
        Flag("folds", int, None, "Fits for the threshold; 1: held-out pictures alone.", min=1),
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
        Flag("threshold", float, None, "A limit for this run, in place of the detector's."),
        Flag("tile", int, None, "Cut larger pictures into tiles, pixels.", min=32),
    ),
    exports=(Flag("sample", list[str], None, "Pictures to prove it on; repeat it."),),
    predict_extras=(
        Flag("refine", Path, None, "Adapter that outlines what is found."),
        Flag("refine_base", str, None, "Its base, if that folder has moved."),
        OVERLAY,
        ANNOTATIONS,
        OUTLINE,
    ),
)
commands.add(*COMMON, "export")


@app.command()
def threshold(
    model: Annotated[Path, typer.Argument(help="Folder written by `fit`, or by `export`.")],
    false_alarm_rate: Annotated[float | None, typer.Option(help="Share of good pictures above it.")] = None,
    value: Annotated[float | None, typer.Option(help="The limit itself.")] = None,
    good: Annotated[list[str] | None, typer.Option(help="New good pictures; repeat it.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category's limit.")] = None,
    backbone: Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Show the limits, or move them without another fit; the folder is rewritten whole."""
    from wildsight.anomaly.export import SETTINGS, move_exported
    from wildsight.anomaly.threshold import limit_lines
    from wildsight.cli.common import tell

    chosen: dict[str, Any] = {"false_alarm_rate": false_alarm_rate, "value": value, "category": category}
    if (model / SETTINGS).is_file() and not good:
        lines = move_exported(model, **chosen)
    else:
        from wildsight.anomaly import AnomalyDetector
        from wildsight.cli.task import pictures_of

        detector = AnomalyDetector.from_pretrained(model, backbone=backbone, device=device)
        if any(v is not None for v in (false_alarm_rate, value)) or good:
            pictures = list(pictures_of(good)) if good else None
            detector.set_threshold(**chosen, good=pictures)
            detector.save_pretrained(model)
        lines = limit_lines(detector.thresholds, detector.settings.false_alarm_rate)
    tell(lines)
