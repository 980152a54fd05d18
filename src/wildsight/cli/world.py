"""``wildsight world``: look at the embedded world, or write it to folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Pictures with exact labels, made on the spot."
)

Size = Annotated[int, typer.Option(help="Side of the pictures in pixels, 32 to 1024.")]
Seed = Annotated[int, typer.Option(help="0 or more; another seed, other pictures.")]


@app.command()
def show(
    parts: Annotated[list[str] | None, typer.Argument(help="Parts to show; all when none is named.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the contact sheets.")] = Path("world"),
    seed: Seed = 0,
    kind: Annotated[str, typer.Option("--format", help="png, jpg or webp.")] = "png",
) -> None:
    """Draw a contact sheet of each part: scenes, materials, labels, sensors, sketches, language, ..."""
    from wildsight.cli.common import console, progress
    from wildsight.errors import ConfigError
    from wildsight.world.sheets import SHEETS, save_sheet

    names = parts or list(SHEETS)
    unknown = [n for n in names if n not in SHEETS]
    if unknown:
        raise ConfigError(f"no part is called {unknown[0]!r}", hint=f"choose from {', '.join(SHEETS)}")
    with progress("sheets", len(names)) as advance:
        for name in names:
            file = save_sheet(name, out / f"world-{name}.{kind}", seed=seed)
            advance(1)
            console.print(str(file), markup=False, soft_wrap=True, highlight=False)


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="SET", help="The data set, such as products or sketches.")],
    folder: Annotated[Path, typer.Argument(help="Where it goes; an earlier export is replaced.")],
    count: Annotated[int | None, typer.Option(help="How many, per class or in all; see the docs.")] = None,
    size: Size = 96,
    seed: Seed = 0,
    failure: Annotated[
        list[str] | None,
        typer.Option(
            help="Test scenes of modalities once more at night, in fog, dead:depth, ...; repeat it."
        ),
    ] = None,
) -> None:
    """Write a data set to plain folders, in the layout that its task reads."""
    from wildsight.cli.common import console
    from wildsight.world.export import export as write

    where = write(name, folder, count=count, size=size, seed=seed, failures=failure or ())
    console.print(str(where), markup=False, soft_wrap=True, highlight=False)
