"""``wildsight composition``: fit, predict, evaluate, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Recognise attribute-object pairs that were never seen together.", no_args_is_help=True
)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. ut-zappos:/data/zap).")]
Model = Annotated[Path, typer.Argument(help="Folder written by `wildsight composition fit`.")]
Backbone = Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")]


@app.command()
def fit(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/composition"),
    method: Annotated[
        str, typer.Option(help="hdaoe, troika, csp, compcos, product, zeroshot, or an ablation.")
    ] = "hdaoe",
    backbone: Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")] = "nano-clip",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training pictures.")] = None,
    image_size: Annotated[int, typer.Option(min=0, help="Side of the input, pixels; 0: backbone's own.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    calibrate: Annotated[bool, typer.Option(help="Set bias and limit on held-out pictures.")] = True,
    seed: Annotated[int, typer.Option(help="Initialisation, order, synthesis, held-out pairs.")] = 0,
) -> None:
    """Learn the words and pairs of SOURCE's training pictures."""
    from wildsight.cli.common import finish, fresh_checkpoint
    from wildsight.composition import CompositionRecognizer
    from wildsight.composition.reports import write_fit

    checkpoint = fresh_checkpoint(out)
    model = CompositionRecognizer(method, backbone, image_size=image_size, calibrate=calibrate, seed=seed)
    training: dict[str, Any] = {"precision": precision} | ({} if epochs is None else {"epochs": epochs})
    model.fit(source, folder=out / "train", **training)
    model.save_pretrained(checkpoint)
    finish(write_fit(model, source, out))


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[str], typer.Argument(help="Files, globs or folders.")],
    pair: Annotated[list[str] | None, typer.Option(help="A candidate, e.g. 'wet cat'; repeat it.")] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Every attribute with every object.")
    ] = False,
    open_vocabulary: Annotated[bool, typer.Option(help="Allow words that were not trained.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Best pairs to list.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/composition-predict"),
    backbone: Backbone = None,
) -> None:
    """Name attribute and object of pictures, one line each; exit code 2 if any could not be read."""
    from wildsight.cli.common import console, finish, progress
    from wildsight.composition import CompositionRecognizer
    from wildsight.composition.reports import write_predictions
    from wildsight.errors import DataError
    from wildsight.images import expand

    files = [file for item in pictures for file in expand(item)]
    if not files:
        raise DataError("no picture found", where=", ".join(pictures), hint="name files, a glob or a folder")
    recognizer = CompositionRecognizer.from_pretrained(model, backbone=backbone)
    candidates: str | list[str] | None = "all" if all_pairs else pair or None
    with progress("predict", len(files)) as advance:
        results, errors = recognizer.predict_files(
            files, progress=advance, pairs=candidates, top=top, open_vocabulary=open_vocabulary
        )
    for result in results:
        best = result.pairs[0]
        known = "" if result.known else " (none of these?)"
        line = f"{result.image}: {best.text} {best.probability:.3f}{known}"
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    for error in errors:
        console.print(f"not read: {error}", markup=False, soft_wrap=True)
    finish(write_predictions(results, [str(e) for e in errors], out))
    if errors:
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Model,
    source: Source,
    open_world: Annotated[bool, typer.Option("--open-world", help="Also every attribute x object.")] = False,
    feasibility: Annotated[
        str | None, typer.Option(help="Open world: least feasibility, -1 to 1, or `validation`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/composition-evaluate"),
    backbone: Backbone = None,
) -> None:
    """Compare a fitted recognizer with the labels of SOURCE's test pictures."""
    from wildsight.cli.common import console, finish
    from wildsight.composition import CompositionRecognizer
    from wildsight.composition.reports import score_sheet, write_evaluation

    recognizer = CompositionRecognizer.from_pretrained(model, backbone=backbone)
    evaluation = recognizer.evaluate(source, open_world=open_world, feasibility=_limit(feasibility))
    console.print(score_sheet(evaluation.rows).rich())
    finish(write_evaluation(recognizer, evaluation, source, out))


def _limit(text: str | None) -> float | str | None:
    """A number where it is one."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


@app.command()
def check(source: Source) -> None:
    """Name every problem found in SOURCE; exit code 1 if there is any."""
    from wildsight.cli.check import check as check_room

    check_room("composition", source)
