"""The commands that every task has, built once: ``fit predict evaluate check bench methods``.

A task's own file names its own options as `Flag`s, and adds commands that no other task has. Nothing here
imports a task or torch before a command runs.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from wildsight.cli import common
from wildsight.cli.options import (
    BACKBONE,
    BATCH,
    DEVICE,
    FULL_SCALE,
    METHOD,
    MOVED,
    READERS,
    SEED,
    SET,
    TRAINING,
    Flag,
    Values,
    argument,
    command,
    out_flag,
)
from wildsight.estimators.tasks import TASKS, resolve


@dataclass
class TaskCommands:
    """The commands of one task.

    Attributes:
        task: its name.
        app: where they are added.
        source: help of SOURCE.
        fits: own options of ``fit``; each is a setting, hyper-parameter, training setting or fit keyword.
        predicts: own options of ``predict``.
        evaluates: own options of ``evaluate``.
        fit_extras, predict_extras, evaluate_extras: options that the command itself reads.
        pictures: help of PICTURES.
        follows: the command that a user wants after ``fit``.
    """

    task: str
    app: typer.Typer
    source: str
    fits: Sequence[Flag] = ()
    predicts: Sequence[Flag] = ()
    evaluates: Sequence[Flag] = ()
    fit_extras: Sequence[Flag] = ()
    predict_extras: Sequence[Flag] = ()
    evaluate_extras: Sequence[Flag] = ()
    pictures: str = "Files, globs or folders."
    follows: str = "predict"

    @property
    def estimator(self) -> Any:
        """The public object's class; imported now."""
        return resolve(TASKS[self.task].estimator)

    def add(self, *names: str) -> None:
        """Add these of the common commands."""
        for name in names:
            getattr(self, f"add_{name}")()

    # -- fit ------------------------------------------------------------------------------------------------

    def add_fit(self, name: str = "fit") -> None:
        """``fit SOURCE``, also under another name."""
        flags = (
            out_flag(self.task),
            METHOD,
            BACKBONE,
            DEVICE,
            *TRAINING,
            *self.fits,
            *self.fit_extras,
            FULL_SCALE,
            SEED,
            SET,
        )
        text = "Fit on SOURCE; a killed fit goes on in its folder. Writes checkpoint, scores and report."
        command(self.app, name, self.fit, text, self.places(), flags)

    def places(self) -> list[inspect.Parameter]:
        """The positional arguments of ``fit``."""
        return [argument("source", str, self.source, "world")]

    def data(self, values: Values) -> Any:
        """What ``fit`` learns from; takes its own arguments out of ``values``."""
        return values["source"]

    def after_fit(self, estimator: Any) -> list[str]:  # noqa: ARG002  a task's own
        """What ``fit`` prints before the warnings."""
        return []

    def made(self, values: Values, options: Any) -> Any:
        """The estimator of a fit."""
        chosen = {n: values[n] for n in (*CHOSEN, "method") if values.get(n) is not None}
        hyper = {"hyper": options.hyper} if options.hyper else {}
        return self.estimator(**chosen, **hyper, seed=values["seed"], **options.settings)

    def sorted(self, values: Values, flags: Sequence[Flag]) -> Any:
        """Options of the estimator by where they go; takes them out of ``values``."""
        from wildsight.estimators.options import sorted_options
        from wildsight.estimators.registry import changed_fields, options_from

        kind = self.estimator
        given = options_from(values.pop("option") or ())
        for flag in flags:
            given |= flag.given(values)
        name = values.get("method") or kind.default_method
        variant = kind.variant(name)
        values["method"] = variant.name
        options = sorted_options(kind, [variant.method], given)
        options.hyper.update({**changed_fields(variant.method), **options.hyper})
        if variant.lr is not None:
            options.training.setdefault("lr", variant.lr)
        return options

    def fit(self, values: Values) -> Any:
        """Run ``fit``; returns the estimator."""
        from wildsight.cli.common import finish, fresh_checkpoint
        from wildsight.files import check_apart, check_writable

        out = values["out"]
        check_apart(out, read_by(values))
        check_writable(out / "report.html")
        fresh_checkpoint(out)
        options = self.sorted(values, (*TRAINING, *self.fits))
        estimator = self.made(values, options)
        estimator.fit(self.data(values), out, **options.fit, **options.training)
        common.tell([*estimator.fit_summary(), *self.after_fit(estimator)])
        say(estimator, estimator.not_read, common.skipped(read_by(values)))
        finish(out / "report.html")
        if (out / "checkpoint").is_dir():
            common.tell([f"next: wildsight {self.task} {self.follows} {out / 'checkpoint'} PICTURES"])
        return estimator

    # -- predict --------------------------------------------------------------------------------------------

    def add_predict(self) -> None:
        """``predict MODEL PICTURES``."""
        out = out_flag(f"{self.task}-predict")
        flags = (out, *self.predicts, *self.predict_extras, MOVED, *READING, BATCH, READERS)
        places = [
            argument("model", Path, f"Folder written by `wildsight {self.task} fit`."),
            argument("pictures", list[str], self.pictures),
        ]
        text = "Predict for pictures, one line each; exit code 2 if any could not be read."
        command(self.app, "predict", self.predict, text, places, flags)

    def inputs(self, texts: Sequence[str]) -> Sequence[Any]:
        """What ``predict`` is asked about."""
        return pictures_of(texts)

    def loaded(self, values: Values) -> Any:
        """The fitted estimator."""
        chosen = {n: values[n] for n in CHOSEN if values.get(n) is not None}
        return self.estimator.from_pretrained(values["model"], **chosen)

    def predict(self, values: Values) -> None:
        """Run ``predict``: each result is printed and written when it is there."""
        from wildsight.cli.common import annotations_of, beside, finish, write_annotations
        from wildsight.files import check_apart, check_writable
        from wildsight.images import scaled
        from wildsight.training.progress import Meter

        annotations, places = annotations_of(values), read_by(values)
        files = self.inputs(values["pictures"])
        check_apart(values["out"], places)
        check_writable(values["out"] / "report.html")
        kind = resolve(f"wildsight.{self.task}.reports:{self.task.title()}Predictions")
        folder = kind(values["out"], overlay=values.pop("overlay", "fit"))
        options: Values = {}
        for flag in (*self.predicts, BATCH, READERS):
            options |= flag.given(values)
        options |= self.asked(values, files)
        estimator = self.loaded(values)
        folder.notes += estimator.warnings()
        common.tell([*common.skipped(places), *replaced(folder.folder, "predict", self.task, files)])
        marked: list[Any] = []
        with scaled(estimator.full_scale):
            common.tell(range_warnings(files))
            with folder, Meter("predict", len(files)) as meter:
                for answer in estimator.iter_files(files, side=folder.side, progress=meter.add, **options):
                    folder.take(answer)
                    self.answered(answer, folder.out)
                    marked += answer.results if annotations else ()
                    errors = [] if answer.error is None else [f"not read: {answer.error}"]
                    beside(meter, [*(r.line() for r in answer.results), *errors])
                report = folder.finish()
            common.tell([f"warning: {text}" for text in [*folder.notes, *folder.warnings()]])
            finish(report)
            self.written(folder.out)
            write_annotations(marked, folder.out, annotations)
        if folder.errors:
            raise typer.Exit(2)
        if folder.alarms:
            raise typer.Exit(1)

    def asked(self, values: Values, files: Sequence[Any]) -> Values:  # noqa: ARG002
        """What `iter_files` takes beside the files, where it depends on them."""
        return {}

    def answered(self, answer: Any, out: Path) -> None:
        """What a task does with each answer beyond the common folder."""

    def written(self, out: Path) -> None:
        """What a task does when all answers are there."""

    # -- evaluate -------------------------------------------------------------------------------------------

    def add_evaluate(self) -> None:
        """``evaluate MODEL SOURCE``."""
        split = Flag("split", str, "test", "Which pictures are scored.")
        flags = (
            out_flag(f"{self.task}-evaluate"),
            split,
            *self.evaluates,
            *self.evaluate_extras,
            MOVED,
            *READING,
        )
        places = [
            argument("model", Path, f"Folder written by `wildsight {self.task} fit`."),
            argument("source", str, self.source),
        ]
        text = "Compare a fitted model with the labels of SOURCE; nothing is selected on them."
        command(self.app, "evaluate", self.evaluate, text, places, flags)

    def evaluate(self, values: Values) -> None:
        """Run ``evaluate``."""
        from wildsight.cli.common import console, finish
        from wildsight.estimators.reporting import write_evaluation
        from wildsight.files import check_apart, check_writable
        from wildsight.images import scaled
        from wildsight.results import RunFolder

        run = RunFolder(values["out"])
        check_apart(run.path, read_by(values))
        check_writable(run.report)
        options: Values = {}
        for flag in self.evaluates:
            options |= flag.given(values)
        estimator = self.loaded(values)
        with scaled(estimator.full_scale):
            data, source = self.scored(values)
            common.tell(replaced(run, "evaluate", self.task, [source, values["split"]]))
            evaluation = self.evaluated(estimator, data, values, options)
            console.print(evaluation.table().rich())
            common.tell(evaluation.summary())
            say(estimator, evaluation.errors, [*evaluation.notes(), *common.skipped(read_by(values))])
            finish(write_evaluation(estimator, evaluation, run, source))

    def scored(self, values: Values) -> tuple[Any, str]:
        """What ``evaluate`` scores, and what reports call it."""
        return values["source"], values["source"]

    def evaluated(self, estimator: Any, data: Any, values: Values, options: Values) -> Any:
        """What is reported."""
        return estimator.evaluate(data, split=values["split"], **options)

    # -- check, bench, methods ------------------------------------------------------------------------------

    def add_check(self) -> None:
        """``check SOURCE``."""
        from wildsight.cli.check import check

        text = "Name every problem found in SOURCE; exit code 1 if there is any."
        places = [argument("source", str, self.source)]
        command(
            self.app, "check", lambda values: check(self.task, values["source"]), text, places, (FULL_SCALE,)
        )

    def add_bench(self) -> None:
        """``bench SOURCE``: the same as ``wildsight bench TASK SOURCE``."""
        from wildsight.cli.bench import bench_flags, run

        text = "Run the methods side by side on SOURCE: one table, mean and spread over seeds."
        places = [argument("source", str, self.source, "world")]
        out = Flag("out", Path, None, f"Folder of the run; default runs/bench-{self.task}.")
        flags = (out, *bench_flags(self.task))
        command(self.app, "bench", lambda values: run(self.task, values), text, places, flags)

    def add_methods(self) -> None:
        """``methods``: names, parameters and defaults."""
        from wildsight.cli.methods import methods

        text = "List the methods of this task with their parameters and defaults."
        command(self.app, "methods", lambda _: methods(self.task), text, (), ())


@dataclass
class ExportingCommands(TaskCommands, ABC):
    """The commands of a task whose model can be exported.

    Attributes:
        exports: own options of ``export``.
    """

    exports: Sequence[Flag] = ()

    def add_export(self) -> None:
        """``export MODEL``."""
        flags = (out_flag(f"{self.task}-export"), *self.exports, TOLERANCE, MOVED)
        places = [argument("model", Path, f"Folder written by `wildsight {self.task} fit`.")]
        text = "Write the model as one ONNX graph; refused where onnxruntime differs from torch on the proof."
        command(self.app, "export", self.export, text, places, flags)

    def export(self, values: Values) -> None:
        """Run ``export``."""
        common.tell(self.exported(self.loaded({**values, "device": "cpu"}), values).lines())

    @abstractmethod
    def exported(self, estimator: Any, values: Values) -> Any:
        """Write the graph; returns its proof."""


TOLERANCE = Flag("tolerance", float, 1e-3, "Largest difference allowed from torch.")
CHOSEN = ("backbone", "device", "full_scale")
"""Options that are arguments of every constructor."""
READING = (DEVICE, FULL_SCALE)
COMMON = ("fit", "predict", "evaluate", "check", "bench", "methods")


def task_app(text: str) -> typer.Typer:
    """The app of a task, without commands yet; see `TaskCommands.add`."""
    return typer.Typer(help=text, no_args_is_help=True)


def source_help(example: str) -> str:
    """Help of SOURCE, with an example of a benchmark folder."""
    return f"`world`, a folder, or NAME:PATH (e.g. {example})."


def read_by(values: Values) -> list[str]:
    """What a command's arguments name to be read, as typed."""
    named = [values.get("source"), values.get("unlabelled"), *(_listed(values.get("pictures")))]
    return [str(text).partition("=")[2] if "=" in str(text) else str(text) for text in named if text]


def _listed(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else [given]


def replaced(run: Any, verb: str, task: str, about: Sequence[Any]) -> list[str]:
    """Write what a run is, before it works; a line where it takes the place of another of its kind.

    Raises:
        CheckpointError: a finished run of another kind is there.
    """
    from wildsight.files import digest_of

    digest = digest_of([str(x) for x in about])[:16]
    now = {"command": verb, "task": task, "reads": digest}
    before = run.check(now, replaces=("reads",))
    run.mark(now)
    other = before.get("reads", digest) != digest
    return [f"replaced: {run.path} held the results of other pictures"] if other else []


def range_warnings(files: Sequence[Any]) -> list[str]:
    """What looks wrong with the range of the pictures that are about to be looked at."""
    from wildsight.datasets.ranges import range_problems

    problems = range_problems([f for f in files if isinstance(f, Path)])
    return [f"warning: {p.file}: {p.what}; {p.hint}" for p in problems]


def say(estimator: Any, errors: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Print the estimator's warnings, what could not be read, and further notes."""
    warnings, unread = (f"warning: {w}" for w in estimator.warnings()), (f"not read: {e}" for e in errors)
    common.tell([*warnings, *unread, *notes])


def pictures_of(texts: Sequence[str]) -> list[Path]:
    """The picture files that arguments name.

    Raises:
        DataError: none.
    """
    from wildsight.errors import DataError
    from wildsight.images import expand

    files = [file for text in texts for file in expand(text)]
    if not files:
        raise DataError("no picture found", where=", ".join(texts), hint="name files, a glob or a folder")
    return files
