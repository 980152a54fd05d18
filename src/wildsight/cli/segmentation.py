"""``wildsight segmentation``: fit, predict, evaluate, check, export, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Outline a defect exactly, from a box or a few points.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. mtd:/data/mtd).")]
AdapterFolder = Annotated[Path, typer.Argument(help="Folder written by `wildsight segmentation fit`.")]
Base = Annotated[str, typer.Option(help="A SAM: hub id, local folder or nano-sam.")]
OtherBase = Annotated[str | None, typer.Option(help="The base, if its folder has moved.")]


@app.command()
def fit(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/segmentation"),
    method: Annotated[str, typer.Option(help="spt, or a peer such as lora.")] = "spt",
    base: Base = "nano-sam",
    geometry: Annotated[str, typer.Option(help="squash or letterbox.")] = "squash",
    masks: Annotated[int | None, typer.Option(min=1, help="Use at most this many masks.")] = None,
    train_fraction: Annotated[float, typer.Option(help="Share of each kind of defect that trains.")] = 0.5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the masks.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Masks per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Rank of the low-rank updates.")] = None,
    frozen_encoder: Annotated[bool, typer.Option(help="No encoder adapter; embeddings are cached.")] = False,
    per_component: Annotated[bool, typer.Option(help="Each connected part by itself.")] = False,
    augment: Annotated[str, typer.Option(help="none, flip or jitter.")] = "jitter",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Initialisation, order, prompts.")] = 0,
) -> None:
    """Learn outlines from the training half of SOURCE."""
    from wildsight.cli.common import finish, fresh_checkpoint
    from wildsight.segmentation import AnomalySegmenter
    from wildsight.segmentation.data import read_source
    from wildsight.segmentation.reports import write_fit

    checkpoint = fresh_checkpoint(out)
    hyper: dict[str, Any] = {} if rank is None else {"rank": rank}
    hyper |= {"encoder_targets": ()} if frozen_encoder else {}
    data = read_source(source, train_fraction=train_fraction)
    segmenter = AnomalySegmenter(
        method, base, hyper=hyper, geometry=geometry, per_component=per_component, augment=augment, seed=seed
    )
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "precision": precision}
    training: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    segmenter.fit(data, masks=masks, folder=out / "train", **training)
    segmenter.save_pretrained(checkpoint)
    finish(write_fit(segmenter, data, out))


@app.command()
def predict(
    adapter: AdapterFolder,
    pictures: Annotated[list[str], typer.Argument(help="Files, globs or folders.")],
    box: Annotated[list[str] | None, typer.Option(help="x1,y1,x2,y2 in pixels; repeat it.")] = None,
    point: Annotated[list[str] | None, typer.Option(help="x,y on the defect; all of them mark one.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help='JSON: file name -> {"boxes": [...], "points": [[...]]}.')
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for masks and report.")] = Path(
        "runs/segmentation-predict"
    ),
    base: OtherBase = None,
    merged: Annotated[bool, typer.Option(help="Fold the low-rank updates first.")] = False,
) -> None:
    """Outline what the boxes and points mark; exit code 2 if a picture could not be used."""
    from wildsight.cli.common import console, finish, progress
    from wildsight.errors import WildSightError
    from wildsight.images import expand
    from wildsight.segmentation import AnomalySegmenter
    from wildsight.segmentation.reports import write_predictions

    files = [file for item in pictures for file in expand(item)]
    asked = _asked(files, box or [], point or [], prompts)
    segmenter = AnomalySegmenter.from_pretrained(adapter, base=base)
    if merged:
        segmenter.merge()
    results, errors = [], []
    with progress("predict", len(files)) as advance:
        for file in files:
            try:
                results += segmenter.predict(file, **asked[file])
            except WildSightError as error:
                errors.append(str(error))
            advance(1)
    for result in results:
        areas = ", ".join(str(int(mask.sum())) for mask in result.masks)
        console.print(f"{result.image}: {areas} pixels", markup=False, soft_wrap=True, highlight=False)
    for text in errors:
        console.print(f"not used: {text}", markup=False, soft_wrap=True)
    finish(write_predictions(results, errors, out))
    if errors:
        raise typer.Exit(2)


def _asked(files: list[Path], box: list[str], point: list[str], prompts: Path | None) -> dict[Path, Any]:
    """Boxes and groups of points of each file."""
    from wildsight.datasets.lists import read_json
    from wildsight.errors import ConfigError, DataError

    points = [_numbers(text, 2, "--point") for text in point]
    common = {"boxes": [_numbers(text, 4, "--box") for text in box], "points": [points] if points else []}
    if prompts is None:
        if not box and not point:
            raise ConfigError(
                "no box and no point", hint="give --box x1,y1,x2,y2, --point x,y or --prompts FILE"
            )
        return dict.fromkeys(files, common)
    table = read_json(prompts)
    found = {}
    for file in files:
        own = table.get(file.name) if isinstance(table, dict) else None
        if not isinstance(own, dict) or not set(own) <= {"boxes", "points"}:
            raise DataError(
                f"says nothing of {file.name}", where=prompts, hint='give {"boxes": [...], "points": [[...]]}'
            )
        found[file] = {"boxes": own.get("boxes", []), "points": own.get("points", [])}
    return found


def _numbers(text: str, count: int, option: str) -> list[float]:
    from wildsight.errors import ConfigError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        form = "x,y" if count == 2 else "x1,y1,x2,y2"
        raise ConfigError(f"{text!r} is not {count} numbers", where=option, hint=f"write {form}")
    return values


@app.command()
def evaluate(
    adapter: AdapterFolder,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/segmentation-evaluate"),
    prompt: Annotated[str, typer.Option(help="box or points, from the true mask.")] = "box",
    points: Annotated[int, typer.Option(min=1, help="Points of a point prompt.")] = 10,
    box_jitter: Annotated[float, typer.Option(help="Move the box's edges by up to this share.")] = 0.0,
    train_fraction: Annotated[float, typer.Option(help="As given to fit.")] = 0.5,
    base: OtherBase = None,
) -> None:
    """Compare outlines with the true masks of SOURCE's test half (prompts from the true masks)."""
    from wildsight.cli.common import console, finish
    from wildsight.segmentation import AnomalySegmenter
    from wildsight.segmentation.data import read_source
    from wildsight.segmentation.reports import score_rows, write_evaluation

    segmenter = AnomalySegmenter.from_pretrained(adapter, base=base)
    data = read_source(source, train_fraction=train_fraction)
    found = segmenter.evaluate(data, prompt=prompt, points=points, box_jitter=box_jitter, keep=True)
    console.print(score_rows(found.rows).rich())
    finish(write_evaluation(segmenter, data, found, out))


@app.command()
def export(
    adapter: AdapterFolder,
    out: Annotated[Path, typer.Option(help="Folder for segmenter.onnx and segmenter.json.")] = Path(
        "runs/segmentation-export"
    ),
    source: Annotated[str, typer.Option(help="Where the pictures to prove it on come from.")] = "world",
    samples: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 4,
    tolerance: Annotated[float, typer.Option(help="Largest difference allowed in a logit.")] = 1e-3,
    base: OtherBase = None,
) -> None:
    """Write the segmenter as ONNX; refused where onnxruntime differs from torch above the tolerance."""
    from wildsight.cli.common import console
    from wildsight.images import load_image
    from wildsight.segmentation import AnomalySegmenter
    from wildsight.segmentation.data import read_mask, read_source
    from wildsight.segmentation.export import export_segmenter
    from wildsight.segmentation.prompts import tight_box

    segmenter = AnomalySegmenter.from_pretrained(adapter, base=base)
    chosen = read_source(source).test[:samples]
    proof = [(load_image(s.image), [tight_box(read_mask(s))]) for s in chosen]
    for line in export_segmenter(segmenter, out, proof, tolerance=tolerance).lines():
        console.print(line, markup=False, soft_wrap=True, highlight=False)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' spt_vit_*.pth, or .safetensors.")],
    base: Base,
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")] = Path("runs/segmentation-adapter"),
) -> None:
    """Turn the authors' checkpoint into an adapter folder."""
    from wildsight.cli.common import console
    from wildsight.segmentation.importer import import_official

    folder = import_official(checkpoint, base).save_pretrained(out)
    console.print(f"adapter: {folder}", markup=False, soft_wrap=True, highlight=False)


@app.command()
def check(source: Source) -> None:
    """Name every problem of SOURCE before training; exit code 1 if there is any."""
    from wildsight.cli.check import check as run

    run("segmentation", source)
