"""``wildsight discovery``: sort, apply, undo, fit, predict, evaluate, estimate-k, check."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.discovery.data import CategoryData

app = typer.Typer(help="Sort pictures into the classes you know and new groups.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. cifar-10:/data/cifar).")]
Unlabelled = Annotated[
    Path | None, typer.Argument(help="Unlabelled pictures, where SOURCE is class folders.")
]
Model = Annotated[Path, typer.Argument(help="Checkpoint folder of `wildsight discovery fit`.")]
Method = Annotated[str, typer.Option(help="sskmeans, nngcd, simgcd, cms or kmeans.")]
BackboneName = Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")]
Groups = Annotated[str, typer.Option("--k", help="Groups, known ones included: auto, 12 or 10-40.")]
Size = Annotated[int, typer.Option(min=8, help="Side of the input square, pixels.")]
Doubt = Annotated[float, typer.Option(help="Confidence below which a picture is put apart.")]
Seed = Annotated[int, typer.Option(help="Centres, initialisation, order and views.")]
Move = Annotated[bool, typer.Option("--move", help="Move the pictures; copies are made otherwise.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=value: a hyper-parameter, or views, crop, components, whiten."),
]
Preset = Annotated[
    str | None, typer.Option(help="Of nngcd: released, strict (released:cub, ... for a set) or text.")
]
Again = Annotated[bool, typer.Option("--again", help="Replace a run whose tables you have edited.")]
Moved = Annotated[str | None, typer.Option(help="The backbone, if its folder has moved.")]


@app.command()
def sort(
    source: Source,
    unlabelled: Unlabelled = None,
    out: Annotated[Path, typer.Option(help="Folder for tables, sheets and report.")] = Path("runs/sorted"),
    k: Groups = "auto",
    doubt: Doubt = 0.5,
    method: Method = "sskmeans",
    backbone: BackboneName = "nano-conv",
    image_size: Size = 224,
    seed: Seed = 0,
    option: Options = None,
    preset: Preset = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make the folders; only planned otherwise.")] = False,
    to: Annotated[Path | None, typer.Option(help="Folder to make them in; default OUT/folders.")] = None,
    move: Move = False,
    again: Again = False,
) -> None:
    """Group the unlabelled pictures, write tables, contact sheets and a report; move nothing unless told to.

    SOURCE holds `labelled/<class>/*` and `unlabelled/*`; or name the folder of class folders and, after it,
    the folder of unlabelled pictures.
    """
    from wildsight.cli.common import finish
    from wildsight.discovery.sorting import check_target, safe_name

    _unedited(out, again)
    data = _data(source, unlabelled)
    for name in data.known:
        safe_name(name)
    if apply:
        check_target(to or out / "folders", [s.image for s in data.unlabelled])
    discoverer = _discoverer(method, backbone, k, image_size, doubt, seed, option, preset)
    _fit(discoverer, data, out)
    report = _leave(discoverer, out, "Sorted pictures")
    _say(discoverer)
    if apply:
        _apply(out, to or out / "folders", move)
    else:
        _print(f"nothing was moved; look at the report, edit the names in {out / 'groups.csv'}, then")
        _print(f"  wildsight discovery apply {out} --to FOLDER")
    finish(report)


@app.command()
def apply(
    run: Annotated[Path, typer.Argument(help="Folder written by `wildsight discovery sort`.")],
    to: Annotated[Path, typer.Option(help="Folder to make; absent or empty.")],
    move: Move = False,
) -> None:
    """Make the folders of a sort, with the names as they stand in its groups.csv and results.csv."""
    _apply(run, to, move)


@app.command()
def undo(
    folder: Annotated[Path, typer.Argument(help="Folder made by apply, or its undo.json.")],
) -> None:
    """Take back what apply did; exit code 1 if something had to be left."""
    from wildsight.discovery.sorting import undo as take_back

    done = take_back(folder)
    _print(f"{done.count} pictures taken back")
    for file, reason in done.kept:
        _print(f"kept {file}: {reason}")
    if done.kept:
        raise typer.Exit(1)


@app.command()
def fit(
    source: Source = "world",
    unlabelled: Unlabelled = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/discovery"),
    k: Groups = "auto",
    method: Method = "nngcd",
    backbone: BackboneName = "nano-conv",
    epochs: Annotated[int | None, typer.Option(min=1, help="Of a trained method.")] = None,
    image_size: Size = 224,
    doubt: Doubt = 0.5,
    seed: Seed = 0,
    option: Options = None,
    preset: Preset = None,
    again: Again = False,
) -> None:
    """Train a discoverer on SOURCE (path B); a fit that was stopped goes on with the same command.

    A fit that was stopped is refused with another method, hyper-parameter, backbone, view or picture.
    """
    from wildsight.cli.common import finish

    _unedited(out, again)
    discoverer = _discoverer(method, backbone, k, image_size, doubt, seed, option, preset)
    training: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    _fit(discoverer, _data(source, unlabelled), out, **training)
    report = _leave(discoverer, out, "Category discovery")
    _say(discoverer)
    finish(report)


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[str], typer.Argument(help="Files, globs or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv.")] = Path("runs/discovery-predict"),
    backbone: Moved = None,
) -> None:
    """Put new pictures into the groups of a fitted discoverer; exit code 2 if any could not be read."""
    from wildsight.cli.common import progress
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.discovery.outputs import result_row
    from wildsight.errors import DataError, WildSightError
    from wildsight.images import expand
    from wildsight.results import RunFolder, environment, write_csv

    files = [file for item in pictures for file in expand(item)]
    if not files:
        raise DataError("no picture found", where=", ".join(pictures), hint="name files, a glob or a folder")
    discoverer = CategoryDiscoverer.from_pretrained(model, backbone=backbone)
    rows, errors = [], []
    with progress("predict", len(files)) as advance:
        for file in files:
            try:
                rows.append(result_row(discoverer.predict(file)[0], str(file)))
            except WildSightError as error:
                errors.append(str(error))
            advance(1)
    for row in rows:
        doubt = " (doubtful)" if row["doubtful"] == "yes" else ""
        _print(f"{row['path']}: {row['name']} {row['confidence']:.2f}{doubt}")
    for text in errors:
        _print(f"not read: {text}")
    folder = RunFolder(out)
    write_csv(folder.results, rows)
    folder.write_scores({"pictures": len(rows), "not_read": errors, "environment": environment()})
    if errors:
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Model,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/discovery-evaluate"),
    backbone: Moved = None,
) -> None:
    """Score the groups of SOURCE's unlabelled pictures where their true class is known."""
    from wildsight.cli.common import finish
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.discovery.outputs import evaluation_report

    discoverer = CategoryDiscoverer.from_pretrained(model, backbone=backbone)
    evaluation = discoverer.evaluate(source)
    for name, value in evaluation.rows[0].items():
        _print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    finish(evaluation_report(discoverer, evaluation, source, out))


@app.command("estimate-k")
def estimate(
    source: Source = "world",
    unlabelled: Unlabelled = None,
    low: Annotated[int | None, typer.Option(min=1, help="Smallest number of classes tried.")] = None,
    high: Annotated[int | None, typer.Option(min=1, help="Largest number of classes tried.")] = None,
    backbone: BackboneName = "nano-conv",
    image_size: Size = 224,
    seed: Seed = 0,
) -> None:
    """Estimate how many classes there are, known ones included, and print the score of each number tried."""
    from wildsight.cli.common import progress

    data = _data(source, unlabelled)
    discoverer = _discoverer("sskmeans", backbone, "auto", image_size, 0.5, seed)
    with progress("features", len(data.samples)) as advance:
        found = discoverer.estimate(data, low=low, high=high, advance=advance)
    for number, (mean, std) in found.curve.items():
        _print(f"{number:6d}  {mean:.4f} +- {std:.4f}{'  <' if number == found.k else ''}")
    _print(f"{found.k} classes ({found.low} to {found.high} score alike), {len(data.known)} of them known")


@app.command()
def check(source: Source, unlabelled: Unlabelled = None) -> None:
    """Name every problem of SOURCE: unreadable files, duplicates, overlaps; exit code 1 if there is any."""
    from wildsight.discovery.data import check as find

    problems = find(_data(source, unlabelled))
    for problem in problems:
        _print(f"{problem.file}: {problem.what}; {problem.hint}")
    _print(f"{len(problems)} problem{'' if len(problems) == 1 else 's'} in {source}")
    if problems:
        raise typer.Exit(1)


def _print(text: str) -> None:
    from wildsight.cli.common import console

    console.print(text, markup=False, soft_wrap=True, highlight=False)


def _data(source: str, unlabelled: Path | None) -> CategoryData:
    from wildsight.discovery.data import read_pair, read_source

    return read_source(source) if unlabelled is None else read_pair(Path(source), unlabelled)


def _discoverer(
    method: str,
    backbone: str,
    k: str,
    image_size: int,
    doubt: float,
    seed: int,
    option: list[str] | None = None,
    preset: str | None = None,
) -> CategoryDiscoverer:
    from wildsight.cli.common import pairs
    from wildsight.discovery import CategoryDiscoverer
    from wildsight.discovery.methods import hyper_of
    from wildsight.discovery.settings import view_and_space

    (views, space), hyper = view_and_space(pairs(option), image_size)
    given = hyper_of(method, preset, hyper)
    return CategoryDiscoverer(
        method, backbone, k=k, hyper=given, views=views, space=space, doubt=doubt, seed=seed
    )


def _unedited(out: Path, again: bool) -> None:
    """Refuse to write over tables that somebody has worked on."""
    from wildsight.discovery.sorting import edited
    from wildsight.errors import ConfigError

    changed = [] if again else edited(out)
    if changed:
        what = f"holds names that you edited in {' and '.join(changed)}"
        raise ConfigError(what, where=out, hint="apply them first, name another --out, or add --again")


def _fit(discoverer: CategoryDiscoverer, data: CategoryData, out: Path, **training: Any) -> None:
    from wildsight.cli.common import fresh_checkpoint, progress

    fresh_checkpoint(out)
    with progress("features", len(data.samples)) as advance:
        discoverer.fit(data, folder=out / "train", advance=advance, **training)


def _leave(discoverer: CategoryDiscoverer, out: Path, title: str) -> Path:
    from wildsight.discovery.outputs import write_run

    report = write_run(discoverer, out, title)
    discoverer.save_pretrained(out / "checkpoint")
    if discoverer.method.trained:  # nothing is left to go on with
        shutil.rmtree(out / "train" / "state", ignore_errors=True)
    return report


def _say(discoverer: CategoryDiscoverer) -> None:
    """The result in a few lines."""
    from collections import Counter

    from wildsight.discovery.outputs import how_k

    results = discoverer.results()
    _print(f"{len(results)} pictures, {how_k(discoverer)}, {len(discoverer.known)} of them known classes")
    counts = Counter(r.group for r in results)
    for group, name in enumerate(discoverer.names):
        if counts[group]:
            _print(f"  {name}: {counts[group]}")
    _print(f"{sum(r.doubtful for r in results)} doubtful")
    fitted = discoverer.need_fit()
    for error in fitted.errors:
        _print(f"not read: {error}")


def _apply(run: Path, to: Path, move: bool) -> None:
    from wildsight.cli.common import progress
    from wildsight.discovery.sorting import apply_plan, plan_of_run

    plan = plan_of_run(run, to, move=move)
    with progress("move" if move else "copy", len(plan)) as advance:
        apply_plan(plan, to, progress=advance)
    done = f"{len(plan)} pictures {'moved' if move else 'copied'} to {to}"
    _print(f"{done}; to take it back: wildsight discovery undo {to}")
