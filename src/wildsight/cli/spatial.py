"""``wildsight spatial``: fit, predict, evaluate, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Where things are in metres, from one picture and a question.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. kitti:/data/kitti).")]
Model = Annotated[Path, typer.Argument(help="Folder written by `wildsight spatial fit`.")]
Other = Annotated[str | None, typer.Option(help="The LLaVA, if its folder has moved.")]


@app.command()
def fit(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/spatial"),
    method: Annotated[str, typer.Option(help="llmi3d, or a peer such as text.")] = "llmi3d",
    backbone: Annotated[
        str, typer.Option(help="A LLaVA or LLaVA-NeXT: hub id, local folder or nano-llava.")
    ] = "nano-llava",
    cnn: Annotated[str, typer.Option(help="Network of the fine map.")] = "nano-conv",
    queries: Annotated[int, typer.Option(min=1, help="3D query tokens: most boxes in one answer.")] = 1,
    pool: Annotated[int, typer.Option(min=1, help="Average visual tokens over pool x pool blocks.")] = 1,
    geometry: Annotated[str, typer.Option(help="virtual, proj or fused.")] = "virtual",
    fit_as: Annotated[str, typer.Option("--fit", help="letterbox or stretch.")] = "letterbox",
    fine_side: Annotated[int | None, typer.Option(min=32, help="Side of the CNN's picture, pixels.")] = None,
    augment: Annotated[bool, typer.Option(help="Mirror and zoom pictures, the camera with them.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training questions.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Questions per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Initialisation, order and augmentation.")] = 0,
) -> None:
    """Learn from the training questions of SOURCE."""
    from wildsight.cli.common import finish, fresh_checkpoint
    from wildsight.spatial import SpatialGrounder
    from wildsight.spatial.reports import write_fit

    checkpoint = fresh_checkpoint(out)
    hyper: dict[str, Any] = {"Q": queries, "pool": pool, "geometry": geometry}
    grounder = SpatialGrounder(
        method, backbone, hyper=hyper, cnn=cnn, fit=fit_as, fine_side=fine_side, seed=seed
    )
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "precision": precision}
    training: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    grounder.fit(source, augment=augment, folder=out / "train", **training)
    grounder.save_pretrained(checkpoint)
    finish(write_fit(grounder, source, out))


@app.command()
def predict(
    model: Model,
    pictures: Annotated[str, typer.Argument(help="A picture, a glob or a folder.")],
    expressions: Annotated[list[str], typer.Argument(help="What is looked for; one or several.")],
    focal: Annotated[
        float | None, typer.Option(help="Focal length, pixels; else EXIF, else a guess.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="A KITTI-like calibration file.")] = None,
    estimate: Annotated[bool, typer.Option(help="Whether the focal length may be guessed.")] = True,
    box: Annotated[str | None, typer.Option(help="left,top,right,bottom, for cube-head.")] = None,
    words: Annotated[bool, typer.Option(help="Let the model say the answer.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for pictures, boxes and report.")] = Path(
        "runs/spatial-predict"
    ),
    backbone: Other = None,
) -> None:
    """Find things in pictures. Exit code 2 if a picture could not be used."""
    from wildsight.cli.common import console, finish, progress
    from wildsight.errors import WildSightError
    from wildsight.images import expand, image_size
    from wildsight.spatial import SpatialGrounder
    from wildsight.spatial.camera import read_calibration
    from wildsight.spatial.reports import write_predictions

    files = expand(pictures)
    numbers = _numbers(box)
    grounder = SpatialGrounder.from_pretrained(model, backbone=backbone)
    results, errors = [], []
    with progress("predict", len(files)) as advance:
        for file in files:
            try:
                told = (
                    None if calibration is None else read_calibration(calibration, image_size(file))[0].matrix
                )
                results += grounder.predict(
                    file,
                    expressions,
                    focal=focal,
                    intrinsics=told,
                    estimate=estimate,
                    box=numbers,
                    words=words,
                )
            except WildSightError as error:
                errors.append(str(error))
            advance(1)
    for result in results:
        marks = f" [{', '.join(result.flags)}]" if result.flags else ""
        line = f"{result.image}: {result.answer} (intrinsics: {result.intrinsics_from}){marks}"
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    for text in errors:
        console.print(f"not used: {text}", markup=False, soft_wrap=True)
    if results:
        finish(write_predictions(results, errors, out))
    if errors:
        raise typer.Exit(2)


def _numbers(text: str | None) -> list[float] | None:
    """Numbers parted by commas.

    Raises:
        ConfigError: something else.
    """
    from wildsight.errors import ConfigError

    if text is None:
        return None
    try:
        return [float(v) for v in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{text!r} is no box", where="--box", hint="write left,top,right,bottom") from error


@app.command()
def evaluate(
    model: Model,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/spatial-evaluate"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    hide_measures: Annotated[
        bool, typer.Option("--hide-measures", help="Hide distances and sizes that descriptions state.")
    ] = False,
    backbone: Other = None,
) -> None:
    """Compare a fitted grounder with the boxes of SOURCE's test questions, per group."""
    from wildsight.cli.common import console, finish
    from wildsight.spatial import SpatialGrounder
    from wildsight.spatial.data import read_source
    from wildsight.spatial.reports import best_and_worst, table_of, write_evaluation

    grounder = SpatialGrounder.from_pretrained(model, backbone=backbone)
    data = read_source(source)
    data = data.without_measures() if hide_measures else data
    evaluation = grounder.evaluate(data, split=split, progress=True)
    console.print(table_of(evaluation.rows).rich())
    finish(write_evaluation(evaluation, grounder, source, best_and_worst(evaluation, data), out))


@app.command("check")
def check_source(source: Source) -> None:
    """Name every problem found in SOURCE; exit code 1 if there is any."""
    from wildsight.cli.check import check

    check("spatial", source)
