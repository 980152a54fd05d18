"""``wildsight discovery``: sort, apply, undo, fit, predict, evaluate, estimate-k, check, bench, methods."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from wildsight.cli.options import (
    BACKBONE,
    DEVICE,
    FULL_SCALE,
    METHOD,
    SEED,
    SET,
    Flag,
    Values,
    argument,
    command,
)
from wildsight.cli.task import COMMON, TaskCommands, say, source_help, task_app

app = task_app("Sort pictures into the classes you know and new groups.")

Move = Annotated[bool, typer.Option("--move", help="Move the pictures; copies are made otherwise.")]
UNLABELLED = argument(
    "unlabelled", Path | None, "Unlabelled pictures, where SOURCE is class folders.", default=None
)
GROUPS = Flag("k", str, None, "Groups, known ones included: auto, 12 or 10-40.", spelled="--k")
SIZE = Flag("image_size", int, None, "Side of the input square, pixels.", min=8)
DOUBT = Flag("doubt", float, None, "Confidence below which a picture is put apart.")
AGAIN = Flag("again", bool, False, "Replace a run whose tables you have edited.", spelled="--again")
PRESET = Flag("preset", str, None, "Of nngcd: released, strict (released:cub, ... for a set) or text.")


class DiscoveryCommands(TaskCommands):
    """A folder of class folders and one of unlabelled pictures may be named apart; fit trains by default."""

    def places(self) -> list[inspect.Parameter]:
        """SOURCE, and the unlabelled pictures."""
        return [*super().places(), UNLABELLED]

    def data(self, values: Values) -> Any:
        """What is read: a source, or two folders."""
        from wildsight.discovery.data import read_pair, read_source

        unlabelled = values.pop("unlabelled")
        if unlabelled is None:
            return read_source(values["source"])
        return read_pair(Path(values["source"]), unlabelled)

    def sorted(self, values: Values, flags: Any) -> Any:
        """As for every task; ``--preset`` is a variant of the method."""
        from wildsight.errors import ConfigError

        values["method"] = method = values.get("method") or self.trained
        preset = values.pop("preset", None)
        if preset is not None and method != "nngcd":
            raise ConfigError(f"preset {preset} is not for {method}", hint="presets are for nngcd")
        if preset is not None:
            from wildsight.discovery.methods.nngcd import NNGCD

            NNGCD.preset(preset)  # a name that it does not know is refused in its words
            values["method"] = f"nngcd-{preset}"
        return super().sorted(values, flags)

    trained = "nngcd"
    """The method of ``fit`` where none is named; ``sort`` takes ``sskmeans``."""

    def after_fit(self, estimator: Any) -> list[str]:
        """The groups with their sizes."""
        results, known = estimator.results(), len(estimator.known)
        counts = Counter(r.group for r in results)
        return [
            f"{len(results)} pictures, {estimator.need_fit().how_k()}, {known} of them known classes",
            *(f"  {name}: {counts[i]}" for i, name in enumerate(estimator.names) if counts[i]),
            f"{sum(r.doubtful for r in results)} doubtful",
        ]

    def add_sort(self) -> None:
        """``sort SOURCE [UNLABELLED]``."""
        flags = (
            Flag("out", Path, Path("runs/sorted"), "Folder for tables, sheets and report."),
            *(METHOD, BACKBONE, DEVICE, GROUPS, SIZE, DOUBT, AGAIN, PRESET),
            FULL_SCALE,
            Flag("apply", bool, False, "Make the folders; only planned otherwise.", spelled="--apply"),
            Flag("to", Path, None, "Folder to make them in; default OUT/folders."),
            Flag("move", bool, False, "Move the pictures; copies are made otherwise.", spelled="--move"),
            *(SEED, SET),
        )
        text = (
            "Group the unlabelled pictures, write tables, contact sheets and a report; move nothing unless "
            "asked to. SOURCE holds labelled/<class>/* and unlabelled/*, or just pictures; or name the "
            "folder of class folders and, after it, the folder of unlabelled pictures."
        )
        places = [argument("source", str, self.source), UNLABELLED]
        command(self.app, "sort", self.sort, text, places, flags)

    def sort(self, values: Values) -> None:
        """Run ``sort``."""
        from wildsight.cli.common import finish, fresh_checkpoint
        from wildsight.discovery.sorting import check_target, check_unedited, safe_name

        out, again = values["out"], values.pop("again")
        to, apply, move = values.pop("to") or out / "folders", values.pop("apply"), values.pop("move")
        if not again:
            check_unedited(out)
        data = self.data(values)
        for name in data.known:
            safe_name(name)
        if apply:
            check_target(to, [s.image for s in data.unlabelled])
        values["method"] = values["method"] or self.estimator.default_method
        options = self.sorted(values, (GROUPS, SIZE, DOUBT))
        discoverer = self.made(values, options)
        fresh_checkpoint(out)
        discoverer.fit(data, folder=out / "train", **options.fit, **options.training)
        report = discoverer.write_run(out, "Sorted pictures")
        discoverer.save_pretrained(out / "checkpoint")
        for line in self.after_fit(discoverer):
            _print(line)
        say(discoverer, discoverer.not_read)
        if apply:
            _apply(out, to, move)
        else:
            _print(f"nothing was moved; look at the report, edit the names in {out / 'groups.csv'}, then")
            _print(f"  wildsight discovery apply {out} --to FOLDER")
        finish(report)

    def add_check(self) -> None:
        """``check SOURCE [UNLABELLED]``."""
        text = "Name every problem of SOURCE: unreadable files, duplicates, overlaps; exit code 1 if any."
        command(
            self.app,
            "check",
            self.check,
            text,
            [argument("source", str, self.source), UNLABELLED],
            (FULL_SCALE,),
        )

    def check(self, values: Values) -> None:
        """Run ``check``."""
        from wildsight.cli.check import report
        from wildsight.datasets.ranges import range_problems
        from wildsight.discovery.data import check, check_source

        if values["unlabelled"] is None:
            report(check_source(values["source"]), values["source"])
            return
        data = self.data(values)
        report([*range_problems([s.image for s in data.samples]), *check(data)], values["source"])

    def add_estimate(self) -> None:
        """``estimate-k SOURCE [UNLABELLED]``."""
        flags = (
            Flag("low", int, None, "Smallest number of classes tried.", min=1),
            Flag("high", int, None, "Largest number of classes tried.", min=1),
            *(BACKBONE, DEVICE, FULL_SCALE, SIZE, SEED),
        )
        text = "Estimate how many classes there are, known ones included, and print the score of each number."
        command(self.app, "estimate-k", self.estimate, text, self.places(), flags)

    def estimate(self, values: Values) -> None:
        """Run ``estimate-k``."""
        data, span = self.data(values), {n: values.pop(n) for n in ("low", "high")}
        chosen = {n: v for n, v in values.items() if n != "source" and v is not None}
        estimate = self.estimator("sskmeans", **chosen).estimate(data, **span)
        for number, (mean, std) in estimate.curve.items():
            _print(f"{number:6d}  {mean:.4f} +- {std:.4f}{'  <' if number == estimate.k else ''}")
        alike = f"{estimate.low} to {estimate.high} score alike"
        _print(f"{estimate.k} classes ({alike}), {len(data.known)} of them known")


commands = DiscoveryCommands(
    task="discovery",
    app=app,
    source=source_help("cifar-10:/data/cifar"),
    fits=(GROUPS, SIZE, DOUBT, AGAIN),
    fit_extras=(PRESET,),
)
commands.add("sort", *COMMON, "estimate")


@app.command()
def apply(
    run: Annotated[Path, typer.Argument(help="Folder written by `wildsight discovery sort`.")],
    to: Annotated[Path, typer.Option(help="Folder to make; absent or empty.")],
    move: Move = False,
) -> None:
    """Make the folders of a sort, with the names in its groups.csv and results.csv."""
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


def _print(text: str) -> None:
    from wildsight.cli.common import console

    console.print(text, markup=False, soft_wrap=True, highlight=False)


def _apply(run: Path, to: Path, move: bool) -> None:
    from wildsight.cli.common import progress
    from wildsight.discovery.sorting import apply_plan, plan_of_run

    plan = plan_of_run(run, to, move=move)
    with progress("move" if move else "copy", len(plan)) as advance:
        apply_plan(plan, to, progress=advance)
    done = f"{len(plan)} pictures {'moved' if move else 'copied'} to {to}"
    _print(f"{done}; to take it back: wildsight discovery undo {to}")
