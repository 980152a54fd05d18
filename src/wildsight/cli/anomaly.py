"""``wildsight anomaly``: fit, predict, evaluate, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wildsight.anomaly import AnomalyDetector
    from wildsight.report import Report

app = typer.Typer(help="Find what is wrong in pictures, from good ones alone.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. mvtec-ad:/data/mvtec).")]
Model = Annotated[Path, typer.Argument(help="Folder written by `wildsight anomaly fit`.")]


@app.command()
def fit(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/anomaly"),
    method: Annotated[str, typer.Option(help="ras, uniad, patchcore or padim.")] = "ras",
    backbone: Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")] = "nano-conv",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the good pictures.")] = None,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the input square, pixels.")] = 224,
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good pictures above the limit.")] = 0.005,
    noise_ratio: Annotated[float | None, typer.Option(help="Feature noise, relative to RMS.")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    select: Annotated[str, typer.Option(help="Epoch kept: last, or val (synthetic defects).")] = "last",
    reproduce_paper: Annotated[
        bool, typer.Option("--reproduce-paper", help="Keep the best epoch ON THE TEST PICTURES: an oracle.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Split, initialisation, order and noise.")] = 0,
) -> None:
    """Learn what is normal from the good pictures of SOURCE (all categories, one model)."""
    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.features import NeckConfig
    from wildsight.cli.common import finish, fresh_checkpoint
    from wildsight.errors import ConfigError

    checkpoint = fresh_checkpoint(out)
    hyper = {} if noise_ratio is None else {"noise_ratio": noise_ratio}
    neck = NeckConfig(image_size=image_size)
    detector = AnomalyDetector(
        method, backbone, hyper=hyper, neck=neck, false_alarm_rate=false_alarm_rate, seed=seed
    )
    if select == "test" and not reproduce_paper:
        raise ConfigError("test pictures select nothing", where="--select", hint="say --reproduce-paper")
    training: dict[str, Any] = {"precision": precision} | ({} if epochs is None else {"epochs": epochs})
    detector.fit(source, folder=out / "train", select="test" if reproduce_paper else select, **training)
    detector.save_pretrained(checkpoint)
    finish(_fit_report(detector, source, out))


def _fit_report(detector: AnomalyDetector, source: str, out: Path) -> Path:
    from wildsight.report import Report
    from wildsight.report.plots import curve
    from wildsight.results import RunFolder, environment, write_csv

    folder = RunFolder(out)
    limits = [
        {"category": name or "(global)", "threshold": t.value, "false_alarm_rate": t.rate, "held_out": t.n}
        for name, t in detector.thresholds.items()
    ]
    write_csv(folder.results, limits)
    scores = {"source": source, "thresholds": limits, "not_read": detector.not_read}
    folder.write_scores({**scores, "environment": environment()})
    report = Report("Anomaly detector", f"{detector.settings.method} on {source}")
    _say_not_read(report, detector.not_read)
    _say_oracle(report, detector.fitted_on["selection"])
    report.facts({**vars(detector.settings), **detector.fitted_on})
    if detector.history is not None and detector.history.epochs:
        report.figure(curve({"loss": detector.history.curve("loss")}, "loss over epochs"), "Training loss")
    report.section("Thresholds, from held-out good pictures alone")
    report.table(_table(limits), "A score above the threshold is anomalous")
    report.section("Environment")
    report.facts(environment())
    report.save(folder.report)
    return folder.report


def _say_oracle(report: Report, selection: str) -> None:
    """Warn, on the terminal and in the report, of weights that were chosen on test pictures."""
    from wildsight.cli.common import console

    if selection.startswith("ORACLE"):
        report.warning(selection)
        console.print(f"warning: {selection}", markup=False, soft_wrap=True)


def _say_not_read(report: Report, errors: list[str]) -> None:
    """List, on the terminal and in the report, the pictures and masks that were left out."""
    from wildsight.cli.common import console

    for error in errors:
        report.warning(f"not read: {error}")
        console.print(f"not read: {error}", markup=False, soft_wrap=True, highlight=False)


def _table(rows: list[dict[str, Any]]) -> Any:
    from wildsight.results import Table

    return Table(list(rows[0]), [[_short(v) for v in r.values()] for r in rows])


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[str], typer.Argument(help="Files, globs or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for overlays, results.csv and scores.json.")] = Path(
        "runs/anomaly-predict"
    ),
    category: Annotated[str | None, typer.Option(help="Use this category's threshold.")] = None,
    backbone: Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")] = None,
    tile: Annotated[int | None, typer.Option(min=32, help="Cut larger pictures into tiles, pixels.")] = None,
    refine: Annotated[Path | None, typer.Option(help="Adapter that outlines what is found.")] = None,
    refine_base: Annotated[str | None, typer.Option(help="Its base, if that folder has moved.")] = None,
) -> None:
    """Score pictures, one line each; exit code 1 if any is anomalous, 2 if any could not be read."""
    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.reports import write_predictions
    from wildsight.cli.common import console, finish, progress
    from wildsight.errors import DataError
    from wildsight.files import check_writable
    from wildsight.images import expand

    files = [file for item in pictures for file in expand(item)]
    if not files:
        raise DataError("no picture found", where=", ".join(pictures), hint="name files, a glob or a folder")
    check_writable(out / "report.html")
    detector = AnomalyDetector.from_pretrained(model, backbone=backbone)
    with progress("predict", len(files)) as advance:
        results, errors = detector.predict_files(files, category=category, tile=tile, progress=advance)
    for result in results:
        verdict = "ANOMALOUS" if result.anomalous else "good"
        line = f"{result.image}: {verdict} score {result.score:.4f} threshold {result.threshold:.4f}"
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    for error in errors:
        console.print(f"not read: {error}", markup=False, soft_wrap=True)
    finish(write_predictions(results, [str(e) for e in errors], out))
    if refine is not None:
        from wildsight.workflows.refine import write_refined

        finish(write_refined(results, refine, out, refine_base))
    if any(r.anomalous for r in results):
        raise typer.Exit(1)
    if errors:
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Model,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/anomaly-evaluate"),
    backbone: Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")] = None,
) -> None:
    """Compare a fitted detector with the labels and masks of SOURCE's test pictures."""
    from wildsight.anomaly import AnomalyDetector
    from wildsight.anomaly.bench import worst_and_best
    from wildsight.cli.common import console, finish
    from wildsight.files import check_writable
    from wildsight.report import Report
    from wildsight.results import RunFolder, environment, write_csv

    check_writable(out / "report.html")
    detector = AnomalyDetector.from_pretrained(model, backbone=backbone)
    evaluation = detector.evaluate(source, progress=True)
    folder = RunFolder(out)
    table = _table(evaluation.rows)
    console.print(table.rich())
    write_csv(folder.results, evaluation.rows)
    scores = {"source": source, "protocol": evaluation.protocol, "scores": evaluation.rows}
    folder.write_scores({**scores, "not_read": evaluation.errors, "environment": environment()})
    report = Report("Evaluation", f"{detector.settings.method} on {source}")
    selection = evaluation.protocol["selection"]
    _say_oracle(report, selection)
    report.table(table, f"Per category and as a mean. Weights: {selection}")
    _say_not_read(report, evaluation.errors)
    report.gallery(worst_and_best(evaluation, detector), "Best and worst cases")
    report.facts({**vars(detector.settings), **evaluation.protocol, **environment()})
    report.save(folder.report)
    finish(folder.report)


@app.command()
def export(
    model: Model,
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

    detector = AnomalyDetector.from_pretrained(model, backbone=backbone)
    done = export_detector(detector, out, sample_pictures(sample or []), tolerance=tolerance)
    for line in done.lines():
        console.print(line, markup=False, soft_wrap=True, highlight=False)
