"""``wildsight inspect``: start, look, group, describe, name, learn, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Find, outline, group, describe, name and learn defects, in one project folder.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="The project's folder.")]


@app.command()
def start(
    project: Folder,
    good: Annotated[str, typer.Argument(help="Good pictures: `world`, a folder, or NAME:PATH.")],
    method: Annotated[str, typer.Option(help="patchcore, padim, ras or uniad.")] = "patchcore",
    backbone: Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")] = "nano-conv",
    adapter: Annotated[str | None, typer.Option(help="Folder of `wildsight segmentation fit`.")] = None,
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good pictures above the limit.")] = 0.02,
    epochs: Annotated[int | None, typer.Option(help="Of ras and uniad.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Start over in an existing project.")] = False,
) -> None:
    """Learn what is normal, and make the project folder."""
    from wildsight.cli.common import console
    from wildsight.workflows.inspect import start as make

    training: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    make(
        project,
        good,
        method=method,
        backbone=backbone,
        adapter=adapter,
        false_alarm_rate=false_alarm_rate,
        again=again,
        **training,
    )
    console.print(f"{project}: ready; next: wildsight inspect look {project} PICTURES", markup=False)


@app.command()
def look(
    project: Folder,
    pictures: Annotated[list[str], typer.Argument(help="Files, globs or folders.")],
    again: Annotated[bool, typer.Option("--again", help="Look at known pictures once more.")] = False,
    batch: Annotated[str, typer.Option(help="What to call this lot of pictures in the report.")] = "",
) -> None:
    """Say of each picture whether it is good, and what is wrong where.

    Exit code 1 if any is rejected, 2 if any could not be read.
    """
    from wildsight.cli.common import console, finish, progress
    from wildsight.workflows.inspect import look as run
    from wildsight.workflows.inspect import open_project, write_report
    from wildsight.workflows.inspect.project import REJECTED
    from wildsight.workflows.inspect.steps import files_of

    opened = open_project(project)
    files = files_of(list(pictures))
    with progress("look", len(files)) as advance:
        seen = run(opened, files, again=again, batch=batch, progress=advance)
    for looked in seen:
        kinds = ", ".join(opened.label(f.id) for f in looked.finds) or "whole picture"
        verdict = opened.verdict(looked)
        verdict = f"REJECTED ({kinds})" if verdict == REJECTED else verdict
        console.print(f"{looked.file}: {verdict}", markup=False, soft_wrap=True, highlight=False)
    for file in files:
        if str(file) in opened.errors:
            console.print(f"not read: {opened.errors[str(file)]}", markup=False, soft_wrap=True)
    finish(write_report(opened))
    if len(seen) < len(files):
        raise typer.Exit(2)
    if any(opened.verdict(looked) == REJECTED for looked in seen):
        raise typer.Exit(1)


@app.command()
def group(
    project: Folder,
    k: Annotated[str, typer.Option("-k", help="Number of groups: auto, a number or a range.")] = "auto",
    method: Annotated[str, typer.Option(help="sskmeans, nngcd, simgcd, cms or kmeans.")] = "sskmeans",
    backbone: Annotated[str, typer.Option(help="Tower for the crops.")] = "nano-clip",
    epochs: Annotated[int | None, typer.Option(help="Of nngcd and simgcd.")] = None,
) -> None:
    """Sort the finds into known names and new groups."""
    from wildsight.cli.common import console, finish
    from wildsight.workflows.inspect import group as run
    from wildsight.workflows.inspect import open_project, write_report

    opened = open_project(project)
    training: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    number = int(k) if k.isdecimal() else k
    count = run(opened, k=number, method=method, backbone=backbone, progress=True, **training)
    console.print(
        f"{count} groups; look at the report, then: wildsight inspect name {project} GROUP NAME", markup=False
    )
    finish(write_report(opened))


@app.command()
def describe(
    project: Folder,
    model: Annotated[
        str, typer.Option(help="Method taught on the world's products, or a folder of `composition fit`.")
    ] = "hdaoe",
    backbone: Annotated[str, typer.Option(help="Tower of a method.")] = "nano-conv",
    words: Annotated[
        Path | None, typer.Option(help="File with one pair a line, such as `scratch washer`.")
    ] = None,
) -> None:
    """Say of each find what is wrong with what, in two words."""
    from wildsight.cli.common import console, finish
    from wildsight.workflows.inspect import describe as run
    from wildsight.workflows.inspect import open_project, write_report

    opened = open_project(project)
    count = run(opened, model=model, backbone=backbone, words=words)
    console.print(f"{count} finds described", markup=False)
    finish(write_report(opened))


@app.command()
def name(
    project: Folder,
    what: Annotated[str, typer.Argument(help="A group such as new_000, or one find.")],
    word: Annotated[str | None, typer.Argument(help="Its name; `good` for a false alarm.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take its name back.")] = False,
) -> None:
    """Give a group or a find a name, or take it back."""
    from wildsight.cli.common import console, finish
    from wildsight.errors import ConfigError
    from wildsight.workflows.inspect import clear as take_back
    from wildsight.workflows.inspect import name as run
    from wildsight.workflows.inspect import open_project, write_report

    if (word is None) != clear:
        raise ConfigError("give either a name or --clear", where=what, hint="see --help")
    opened = open_project(project)
    if word is None:
        console.print(f"{take_back(opened, what)} finds have no name now", markup=False)
    else:
        console.print(f"{run(opened, what, word)} finds are called {word}", markup=False)
    finish(write_report(opened))


@app.command()
def learn(
    project: Folder,
    method: Annotated[str | None, typer.Option(help="Of the continual task; mulki at first.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A CLIP; nano-clip at first.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin with a new learner.")] = False,
) -> None:
    """Teach the names, and answer with them from now on."""
    from wildsight.cli.common import console, finish
    from wildsight.workflows.inspect import learn as run
    from wildsight.workflows.inspect import open_project, write_report

    opened = open_project(project)
    taught = run(opened, method=method, backbone=backbone, again=again)
    console.print(f"learned: {', '.join(taught) or 'names were taken back'}", markup=False)
    finish(write_report(opened))


@app.command()
def report(
    project: Folder,
    annotations: Annotated[
        list[str] | None, typer.Option(help="Also write coco, yolo, labelme or labelstudio; repeat it.")
    ] = None,
    outline: Annotated[str | None, typer.Option(help="Of annotations: polygon, or rle.")] = None,
) -> None:
    """Write the inspection report again."""
    from wildsight.cli.common import annotations_of, finish, write_annotations
    from wildsight.workflows.inspect import marked, open_project, write_report

    asked = annotations_of({"annotations": annotations, "outline": outline})
    opened = open_project(project)
    finish(write_report(opened))
    write_annotations(marked(opened), project, asked)
