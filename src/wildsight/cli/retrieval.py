"""``wildsight retrieval``: fit, index, search, evaluate, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Find photos by sketch, for classes never trained.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. sketchy-2:/data/sketchy).")
]
Model = Annotated[Path, typer.Argument(help="Folder written by `wildsight retrieval fit`.")]
Index = Annotated[
    str, typer.Option("--index", help="photos.db, photos.shelf (searched from disk), or a Milvus address.")
]
Tower = Annotated[str | None, typer.Option("--backbone", help="The backbone, if its folder has moved.")]


@app.command()
def fit(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/retrieval"),
    method: Annotated[str, typer.Option(help="quadruplet, ramln, triplet, contrastive, ...")] = "quadruplet",
    backbone: Annotated[str, typer.Option(help="Hub id, local folder or nano-*.")] = "nano-clip",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of 50 batches.")] = None,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the input square, pixels.")] = 224,
    bits: Annotated[int, typer.Option(min=0, help="Binary codes of so many bits; 0 for none.")] = 0,
    seed: Annotated[int, typer.Option(help="Initialisation, batches and codes.")] = 0,
) -> None:
    """Train on the seen classes of SOURCE, then measure on its unseen ones."""
    from wildsight.cli.common import finish, fresh_checkpoint
    from wildsight.retrieval import SketchRetriever

    checkpoint = fresh_checkpoint(out)
    retriever = SketchRetriever(method, backbone, image_size=image_size, bits=bits, seed=seed)
    training: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    retriever.fit(source, folder=out / "train", **training)
    retriever.save_pretrained(checkpoint)
    finish(_evaluated(retriever, source, out))


def _evaluated(retriever: Any, source: str, out: Path) -> Path:
    from wildsight.cli.common import console
    from wildsight.results import Table
    from wildsight.retrieval import SketchRetriever
    from wildsight.retrieval.data import read_source
    from wildsight.retrieval.reports import write_evaluation

    data = read_source(source)
    size = retriever.settings.image_size
    before = SketchRetriever("zero-shot", retriever.backbone, image_size=size).evaluate(data)
    evaluation = retriever.evaluate(data)
    rows = [[n, f"{v:.4f}", f"{before.row[n]:.4f}"] for n, v in evaluation.row.items()]
    console.print(Table(["metric", "trained", "tower untouched"], rows).rich())
    facts = {"source": source, **vars(retriever.settings)}
    return write_evaluation(evaluation, before, facts, retriever.history, out)


@app.command()
def evaluate(
    model: Model,
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/retrieval-evaluate"),
    backbone: Tower = None,
) -> None:
    """Rank all photos of SOURCE's unseen classes for every sketch of them."""
    from wildsight.cli.common import finish
    from wildsight.retrieval import SketchRetriever

    finish(_evaluated(SketchRetriever.from_pretrained(model, backbone=backbone), source, out))


@app.command()
def index(
    model: Model,
    photos: Annotated[list[str], typer.Argument(help="Folders, globs or files.")],
    uri: Index = "photos.db",
    backbone: Tower = None,
    engine: Annotated[str, typer.Option(help="local, or ray: several processes or machines.")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Processes at most, with --engine ray.")] = 2,
    address: Annotated[str | None, typer.Option("--ray", help="Address of a running Ray cluster.")] = None,
) -> None:
    """Bring an index in step with photos; run it again after a change or an interruption.

    Photos that moved keep their row, copies share one, photos that are gone from a named folder are
    removed. Exit code 2 if any could not be read; the others are indexed all the same.
    """
    from wildsight.cli.common import console, progress
    from wildsight.errors import DataError
    from wildsight.images import expand, list_images
    from wildsight.retrieval import SketchRetriever

    roots = [Path(p) for p in photos if Path(p).is_dir()]
    files = [f for p in photos for f in (list_images(p, recursive=True) if Path(p).is_dir() else expand(p))]
    if not files:
        raise DataError("no picture found", where=", ".join(photos), hint="name folders, globs or files")
    retriever = SketchRetriever.from_pretrained(model, backbone=backbone)
    root = roots[0] if len(photos) == len(roots) == 1 else None
    with progress("index", len(files)) as advance:
        report = retriever.index(
            files, uri, root=root, progress=advance, engine=engine, workers=workers, address=address
        )
    for error in report.errors:
        console.print(f"not read: {error}", markup=False, soft_wrap=True)
    console.print(
        f"{report.total} photos: {report.added} added, {report.moved} moved, {report.duplicates} copies, "
        f"{report.removed} removed, {report.unchanged} as they were",
        markup=False,
    )
    kind = "exact" if report.kind == "FLAT" else "approximate"
    console.print(
        f"search is {kind}; recall of the ten nearest measured here: {report.recall:.3f}", markup=False
    )
    if report.errors:
        raise typer.Exit(2)


@app.command()
def search(
    model: Model,
    sketches: Annotated[list[str], typer.Argument(help="Sketch files, globs or folders.")],
    uri: Index = "photos.db",
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Photos per sketch.")] = 24,
    out: Annotated[Path, typer.Option(help="Folder for the page and the rows.")] = Path(
        "runs/retrieval-search"
    ),
    backbone: Tower = None,
) -> None:
    """Print the nearest photos of each sketch and write a page with them."""
    from wildsight.cli.common import console, finish
    from wildsight.errors import DataError
    from wildsight.images import expand
    from wildsight.retrieval import SketchRetriever
    from wildsight.retrieval.reports import write_search

    files = [file for item in sketches for file in expand(item)]
    if not files:
        raise DataError("no sketch found", where=", ".join(sketches), hint="name files, a glob or a folder")
    results = SketchRetriever.from_pretrained(model, backbone=backbone).search(files, uri, k=k)
    for result in results:
        for warning in result.warnings:
            console.print(f"{result.query}: {warning}", markup=False, soft_wrap=True)
        for hit in result.hits:
            line = f"{result.query}\t{hit.path}\t{hit.distance:.4f}"
            console.print(line, markup=False, soft_wrap=True, highlight=False)
    finish(write_search(results, out))
