"""``wildsight retrieval``: fit, predict, evaluate, check, bench, methods, index, search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wildsight.cli.options import (
    BATCH,
    MOVED,
    READERS,
    Flag,
    Values,
    argument,
    chosen,
    command,
    out_flag,
)
from wildsight.cli.task import COMMON, READING, TaskCommands, source_help, task_app

app = task_app("Find photos by sketch, for classes never trained.")
MODEL = argument("model", Path, "Folder written by `wildsight retrieval fit`.")
INDEX = Flag(
    "uri",
    str,
    "photos.db",
    "photos.db, photos.shelf (searched from disk), or a Milvus address.",
    to="index",
    spelled="--index",
)


class RetrievalCommands(TaskCommands):
    """A fit is measured on its unseen classes; photos are indexed before they are searched."""

    def after_fit(self, estimator: Any) -> list[str]:
        """Show what the fit measured."""
        from wildsight.cli.common import console

        for table, _ in estimator.fit_tables():
            console.print(table.rich())
        return super().after_fit(estimator)

    def index(self, values: Values) -> None:
        """Run ``index``."""
        import typer

        from wildsight.cli.common import tell
        from wildsight.errors import DataError
        from wildsight.images import expand, list_images
        from wildsight.training.progress import Meter

        photos = values["photos"]
        roots = [Path(p) for p in photos if Path(p).is_dir()]
        files = [
            f for p in photos for f in (list_images(p, recursive=True) if Path(p).is_dir() else expand(p))
        ]
        if not files:
            raise DataError("no picture found", where=", ".join(photos), hint="name folders, globs or files")
        options = chosen(values, "engine", "workers", "address")
        root = roots[0] if len(photos) == len(roots) == 1 else None
        retriever = self.loaded(values)
        with Meter("index", len(files)) as meter:
            report = retriever.index(files, values["uri"], root=root, progress=meter.add, **options)
        tell([*(f"not read: {error}" for error in report.errors), *report.lines()])
        if report.errors:
            raise typer.Exit(2)


commands = RetrievalCommands(
    task="retrieval",
    app=app,
    source=source_help("sketchy-2:/data/sketchy"),
    follows="index",
    fits=(
        Flag("image_size", int, None, "Side of the input square, pixels.", min=32),
        Flag("bits", int, None, "Binary codes of so many bits; 0 for none.", min=0),
    ),
    predicts=(INDEX, Flag("k", int, 24, "Photos per sketch.", spelled="-k", min=1)),
    evaluates=(
        Flag("binary", bool, True, "Rank by binary codes where the model has them."),
        Flag("compare", bool, True, "Score the untouched tower beside it."),
    ),
)
commands.add(*COMMON)
command(
    app,
    "search",
    commands.predict,
    "Print the nearest photos of each sketch and write a page with them; the same as predict.",
    [MODEL, argument("pictures", list[str], "Sketch files, globs or folders.")],
    (out_flag("retrieval-search"), *commands.predicts, MOVED, *READING, BATCH, READERS),
)
command(
    app,
    "index",
    commands.index,
    "Bring an index in step with photos; run it again after a change or an interruption. Photos that moved "
    "keep their row, copies share one, photos that are gone from a named folder are removed. Exit code 2 if "
    "any could not be read; the others are indexed all the same.",
    [MODEL, argument("photos", list[str], "Folders, globs or files.")],
    (
        INDEX,
        MOVED,
        *READING,
        Flag("engine", str, "local", "local, or ray: several processes or machines."),
        Flag("workers", int, 2, "Processes at most, with --engine ray.", min=1),
        Flag("address", str, None, "Address of a running Ray cluster.", spelled="--ray"),
    ),
)
