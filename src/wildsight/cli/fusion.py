"""``wildsight fusion``: fit, predict, evaluate, check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="One mask from several sensors, also when one is missing.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. deliver:/data/DELIVER).")]
Model = Annotated[Path, typer.Argument(help="Folder written by `wildsight fusion fit`.")]
Other = Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")]


@app.command()
def fit(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/fusion"),
    method: Annotated[str, typer.Option(help="pwrf, or a peer such as concatenation.")] = "pwrf",
    backbone: Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")] = "nano-conv",
    encoders: Annotated[str, typer.Option(help="frozen, shared (one trains) or each.")] = "frozen",
    modality: Annotated[list[str] | None, typer.Option(help="Only these; repeat it.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training scenes.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Scenes per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the input square, pixels.")] = 64,
    stride: Annotated[list[int] | None, typer.Option(help="Tap of the backbone; repeat it.")] = None,
    stretch: Annotated[list[str] | None, typer.Option(help="Spread each picture of this; repeat it.")] = None,
    width: Annotated[int, typer.Option(min=4, help="Channels of the fused maps.")] = 64,
    drop: Annotated[float, typer.Option(help="Share of modalities hidden while training.")] = 0.1,
    allow_missing: Annotated[bool, typer.Option(help="Train on scenes that lack a modality too.")] = False,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Initialisation, order, flips and hiding.")] = 0,
) -> None:
    """Learn masks from the training scenes of SOURCE."""
    from wildsight.cli.common import finish, fresh_checkpoint
    from wildsight.fusion import FusionSegmenter
    from wildsight.fusion.reports import write_fit

    checkpoint = fresh_checkpoint(out)
    settings: dict[str, Any] = {"image_size": image_size, "width": width, "drop": drop}
    settings |= {"encoders": encoders, "seed": seed, "stretch": tuple(stretch or ())}
    settings |= {"strides": tuple(stride)} if stride else {}
    segmenter = FusionSegmenter(method, backbone, **settings)
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "precision": precision}
    training: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    segmenter.fit(source, modalities=modality, allow_missing=allow_missing, folder=out / "train", **training)
    segmenter.save_pretrained(checkpoint)
    finish(write_fit(segmenter, source, out))


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[str], typer.Argument(help="MODALITY=FILE or MODALITY=FOLDER, one each.")],
    out: Annotated[Path, typer.Option(help="Folder for masks and report.")] = Path("runs/fusion-predict"),
    backbone: Other = None,
) -> None:
    """Segment scenes; files of several folders belong together by stem. Exit code 2 if one could not be used.

    A modality may be left out, for all scenes or for some.
    """
    from wildsight.cli.common import console, finish, progress
    from wildsight.errors import WildSightError
    from wildsight.fusion import FusionSegmenter
    from wildsight.fusion.reports import write_predictions

    scenes = scenes_of(pictures)
    segmenter = FusionSegmenter.from_pretrained(model, backbone=backbone)
    results, errors = [], []
    with progress("predict", len(scenes)) as advance:
        for scene in scenes:
            try:
                results += segmenter.predict(scene)
            except WildSightError as error:
                errors.append(str(error))
            advance(1)
    for result in results:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in result.to_dict()["area"].items())
        lacking = f" (no {', no '.join(result.missing)})" if result.missing else ""
        console.print(f"{result.name}: {parts}{lacking}", markup=False, soft_wrap=True, highlight=False)
    for text in errors:
        console.print(f"not used: {text}", markup=False, soft_wrap=True)
    warnings = ["no stem stands in two folders: every scene has one modality"] if unpaired(scenes) else []
    for text in warnings:
        console.print(f"warning: {text}", markup=False, soft_wrap=True)
    finish(write_predictions(results, errors, out, warnings))
    if errors:
        raise typer.Exit(2)


def unpaired(scenes: Sequence[Mapping[str, Path]]) -> bool:
    """Whether several modalities were given, and no scene has two of them."""
    return len({n for scene in scenes for n in scene}) > 1 and all(len(scene) == 1 for scene in scenes)


def scenes_of(pictures: list[str]) -> list[dict[str, Path]]:
    """Scenes from ``MODALITY=FILE`` or ``MODALITY=FOLDER``; single files are one scene, folders pair by stem.

    Raises:
        ConfigError: an argument of another form, or a modality given twice.
        DataError: no picture, or files mixed with folders.
    """
    from wildsight.datasets.folders import by_stem
    from wildsight.errors import ConfigError, DataError

    given: dict[str, Path] = {}
    for text in pictures:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise ConfigError(f"{text!r} names no modality", hint="write rgb=FILE or rgb=FOLDER")
        if name in given:
            raise ConfigError(
                f"{name} is given twice", where=text, hint="give one file or folder of each modality"
            )
        given[name] = Path(path)
    folders = [p.is_dir() for p in given.values()]
    if not any(folders):
        return [dict(given)]
    if not all(folders):
        raise DataError("files are mixed with folders", where=", ".join(pictures), hint="give one kind")
    scenes: dict[str, dict[str, Path]] = {}
    for name, folder in given.items():
        for stem, file in by_stem(folder).items():
            scenes.setdefault(stem, {})[name] = file
    if not scenes:
        raise DataError("no picture found", where=", ".join(pictures), hint="name folders of pictures")
    return [scenes[stem] for stem in sorted(scenes)]


@app.command()
def evaluate(
    model: Model,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/fusion-evaluate"),
    without: Annotated[list[str] | None, typer.Option(help="As if these were missing; repeat it.")] = None,
    split: Annotated[str, typer.Option(help="test, or validation as DELIVER is published.")] = "test",
    backbone: Other = None,
) -> None:
    """Compare a fitted segmenter with the masks of SOURCE's test scenes, per condition."""
    from wildsight.cli.common import console, finish
    from wildsight.fusion import FusionSegmenter
    from wildsight.fusion import data as sources
    from wildsight.fusion.bench import best_and_worst
    from wildsight.fusion.reports import shortened, table_of, write_evaluation

    segmenter = FusionSegmenter.from_pretrained(model, backbone=backbone)
    data = sources.read_source(source)
    for name in without or []:
        data = sources.without(data, name)
    evaluation = segmenter.evaluate(data, split=split)
    console.print(table_of(evaluation.rows).rich())
    for text in [*(f"not read: {error}" for error in evaluation.errors), *shortened(evaluation.gaps)]:
        console.print(text, markup=False, soft_wrap=True)
    pictures = best_and_worst(segmenter, data, evaluation=evaluation)
    title = f"{source} without {', '.join(without)}" if without else source
    finish(write_evaluation(evaluation, segmenter, title, pictures, out))


@app.command("check")
def check_source(source: Source) -> None:
    """Name every problem found in SOURCE; exit code 1 if there is any."""
    from wildsight.cli.check import check

    check("fusion", source)
