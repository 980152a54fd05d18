"""One bench for every task: methods x seeds on one source, mean and spread, one folder.

A bench measures the product: each cell is the task's own estimator with its own defaults, fitted and
evaluated as a user would. A row is one method, one seed and one group, such as a category or their mean.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from wildsight.estimators.base import Estimator
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.gallery import keep_pictures, pictures_of
from wildsight.estimators.options import sorted_options
from wildsight.estimators.registry import Variant, changed_fields, configured, hyper_names, unknown_name
from wildsight.estimators.tasks import resolve, task_named
from wildsight.files import check_writable, digest_of, read_json, write_json
from wildsight.images import declared_scale
from wildsight.report import Report
from wildsight.report.plots import scatter
from wildsight.results import (
    RunFolder,
    Table,
    environment,
    score_table,
    scores_of,
    spread,
    summarised,
    title,
    write_csv,
)
from wildsight.training.state import UNLEARNED

NOT_SHARED = ("method", "backbone", "seed")


class Bench:
    """A task's bench; a subclass says what is its own.

    Args:
        source: ``world``, a folder or ``NAME:PATH``.
        out: the bench's folder; finished cells are kept in it, so that an interrupted bench goes on.
        backbone: hub id, local folder or ``nano-*``; None takes the estimator's default.
        methods: names, also as ``uniad@7e-4`` (another learning rate) or ``ras[gate=false]`` (another
            hyper-parameter); default all of the task's table.
        seeds: number of seeds, counted from 0.
        device: where everything runs.
        finished: run nothing; say what the finished cells in ``out`` hold, and which are missing.
        progress: show progress and the time left.
        options: settings of the estimator, training settings, hyper-parameters (also as ``hyper={...}``),
            options of fit and evaluate, and those of the bench itself.

    Raises:
        ConfigError: an unknown method, option or device. DataError: the source does not fit its layout.
    """

    estimator: ClassVar[type[Estimator[Any, Any]]]
    metrics: ClassVar[tuple[str, ...]]
    """Headline first."""
    table: ClassVar[tuple[str, ...]] = ()
    """Methods of the table; all that are registered where empty."""
    cost: ClassVar[str | None] = "fit_seconds"
    """Metric to plot the headline against."""

    def __init__(
        self,
        source: Any,
        *,
        out: Path,
        backbone: Any = None,
        methods: Sequence[str] | None = None,
        seeds: int = 3,
        device: str | int | None = "auto",
        finished: bool = False,
        progress: bool = True,
        **options: Any,
    ) -> None:
        kind = self.estimator
        names = methods or self.table or tuple(kind.methods)
        self.variants = [self.variant(name) for name in names]
        options |= options.pop("hyper", None) or {}
        own = {name: options.pop(name) for name in list(options) if name in self.own}
        self.own_options = {**self.own, **own}
        self.options = sorted_options(kind, [v.method for v in self.variants], options)
        self.source, self.out, self.seeds = source, out, seeds
        self.finished, self.progress = finished, progress
        self.first = self.made(self.variants[0], 0, backbone, device)
        self.network, self.device = self.first.backbone, self.first.device
        self.data = self.read(source)
        self.missing: list[str] = []
        self.learning_rates: dict[str, float] = {}
        self.shared_settings: dict[str, Any] = {}

    own: ClassVar[Mapping[str, Any]] = {}
    """Options of the bench itself with their defaults, such as which categories."""

    # -- what a task may change -----------------------------------------------------------------------------

    def variant(self, name: str) -> Variant[Any]:
        """A name of the table as a method with its parameters."""
        return self.estimator.variant(name)

    def read(self, source: Any) -> Any:
        """The data behind the source."""
        return self.first._read(source)

    def parts(self, data: Any) -> Iterator[tuple[str, Any]]:
        """(label, data) of each part that is fitted apart; the label is put before its groups."""
        yield "", data

    def rows(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[dict[str, Any]]:
        """The rows of one cell, each with its ``group``."""
        rows = [dict(row) for row in evaluation.rows]
        return [{"group": row.pop(evaluation.group, "all"), **row} for row in rows]

    def settings_of(self, chosen: Variant[Any]) -> dict[str, Any]:
        """The constructor's settings for a method."""
        return self.options.settings

    def cell_seed(self, chosen: Variant[Any], seed: int) -> int:
        """The seed that a cell is fitted with; the same one for several seeds is fitted once."""
        return seed

    def metrics_of(self, data: Any) -> tuple[str, ...]:
        """The metrics of the tables for this data."""
        return self.metrics

    def facts(self, data: Any) -> dict[str, Any]:
        """What else a reader must know: oracles, budgets."""
        return {}

    def is_shown(self, chosen: Variant[Any], seed: int) -> bool:
        """Whether a cell's pictures are kept for the report."""
        return seed == 0 and chosen.text == self.estimator.default_method

    def shown(self, estimator: Any, evaluation: Evaluation, data: Any) -> list[tuple[Any, str]]:
        """Pictures with captions of a cell."""
        return evaluation.pictures()

    # -- the run --------------------------------------------------------------------------------------------

    def made(self, chosen: Variant[Any], seed: int, backbone: Any, device: Any) -> Any:
        """The estimator of one cell."""
        mine = {n: v for n, v in self.options.hyper.items() if n in hyper_names(chosen.method)}
        given = {**changed_fields(chosen.method), **mine, **chosen.options}
        method = configured(type(chosen.method), given, noun="hyper-parameter")
        fixed = {"device": device, "seed": seed, **self.settings_of(chosen)}
        return self.estimator(chosen.name, backbone, hyper=method, **fixed)

    def run(self) -> BenchResult:
        """Fit and evaluate every method with every seed on every part; finished cells are read."""
        rows: list[dict[str, Any]] = []
        pictures: list[tuple[Any, str]] = []
        for seed in range(self.seeds):
            for label, part in self.parts(self.data):
                for chosen in self.variants:
                    fitted_with = self.cell_seed(chosen, seed)
                    estimator = self.made(chosen, fitted_with, self.network, self.device)
                    file = self._file(estimator, chosen, label, part)
                    if not file.is_file():
                        if self.finished:
                            self.missing.append(f"{chosen.text} seed {seed}")
                            continue
                        self._cell(estimator, chosen, label, part, file)
                    rows += [{"method": chosen.text, **row, "seed": seed} for row in read_json(file)]
                    pictures += pictures_of(file.with_suffix(""))
        return BenchResult(rows, self.metrics_of(self.data), self._facts(), pictures, self.cost)

    def _trained(self, chosen: Variant[Any]) -> bool:
        return bool(getattr(chosen.method, "trained", True))

    def _training(self, chosen: Variant[Any]) -> dict[str, Any]:
        """Training settings of a variant; none where it does not train."""
        if not self._trained(chosen):
            return {}
        return self.options.training | ({} if chosen.lr is None else {"lr": chosen.lr})

    def _file(self, estimator: Any, chosen: Variant[Any], label: str, data: Any) -> Path:
        """Where a cell is kept; all that its rows depend on is in its name."""
        settings = {k: v for k, v in asdict(estimator.settings).items() if k not in NOT_SHARED}
        self.shared_settings = self.shared_settings or settings
        recipe: dict[str, Any] = {}
        if self._trained(chosen):
            recipe = asdict(estimator.training_config(self._training(chosen)))
            self.learning_rates.setdefault(chosen.text, recipe["lr"])
        training = {k: v for k, v in recipe.items() if k not in UNLEARNED}
        own = {k: v for k, v in self.own_options.items() if k not in self.choosing}
        scale = [] if declared_scale() is None else [declared_scale()]
        options = [self.options.fit, self.options.evaluate, own, *scale]
        parts = [self.network.sha, dict(data.protocol), settings, asdict(estimator.method), training, options]
        key = digest_of(_plain([*parts, label]))
        return self.out / "cells" / f"{chosen.stem}-seed{estimator.settings.seed}-{key[:12]}.json"

    choosing: ClassVar[frozenset[str]] = frozenset()
    """Own options that only choose among parts; the parts' protocols tell them apart."""

    def _cell(self, estimator: Any, chosen: Variant[Any], label: str, data: Any, file: Path) -> None:
        """One method with one seed on one part; its rows go to ``file``, its pictures beside it."""
        begin, work = time.perf_counter(), time.process_time()
        state = self.out / "train" / file.stem
        self.fit(estimator, data, state, self._training(chosen))
        times = {"fit_seconds": time.perf_counter() - begin, "fit_cpu_seconds": time.process_time() - work}
        begin = time.perf_counter()
        evaluation = self.evaluate(estimator, data)
        times["evaluate_seconds"] = time.perf_counter() - begin
        rows = [{**row, **times} for row in self.rows(estimator, evaluation, data)]
        for row in rows:
            row["group"] = f"{label} {row['group']}".strip()
        if self.is_shown(chosen, estimator.settings.seed):
            keep_pictures(self.shown(estimator, evaluation, data), file.with_suffix(""))
        write_json(file, summarised(rows))

    def fit(self, estimator: Any, data: Any, folder: Path, training: Mapping[str, Any]) -> None:
        """Fit one cell."""
        estimator.fit(data, folder=folder, progress=self.progress, **self.options.fit, **training)

    def evaluate(self, estimator: Any, data: Any) -> Evaluation:
        """Evaluate one cell."""
        evaluation: Evaluation = estimator.evaluate(data, progress=self.progress, **self.options.evaluate)
        return evaluation

    def _facts(self) -> dict[str, Any]:
        return {
            "source": str(getattr(self.data, "name", self.source)),
            "backbone": self.network.name,
            "backbone SHA-256": self.network.sha,
            "seeds": self.seeds,
            "settings": self.shared_settings,
            "training": self.options.training or "each method's own recipe",
            "learning rates": ", ".join(f"{name} {lr:g}" for name, lr in self.learning_rates.items()),
            **({"hyper-parameters": self.options.hyper} if self.options.hyper else {}),
            **self.own_options,
            **self.options.fit,
            **self.options.evaluate,
            **self.facts(self.data),
            **({"missing": ", ".join(self.missing)} if self.missing else {}),
            **{f"protocol: {k}": v for k, v in self.data.protocol.items()},
        }


def _plain(value: Any) -> Any:
    """JSON-able form of what names a cell."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@dataclass(frozen=True)
class BenchResult:
    """What a bench measured.

    Attributes:
        rows: one mapping per method, seed and group: ``method``, ``seed``, ``group`` and the metrics.
        metrics: names of the metrics to tabulate, headline first.
        facts: settings, protocol and its hash, printed with the scores.
        pictures: (image, caption) pairs for the report.
        cost: the metric to plot the headline against, such as ``fit_seconds``; None for no plot.
    """

    rows: Sequence[Mapping[str, Any]]
    metrics: Sequence[str]
    facts: Mapping[str, Any]
    pictures: Sequence[tuple[Any, str]] = field(default_factory=tuple)
    cost: str | None = None

    def add_to(self, report: Report, metrics: Sequence[str], caption: str, pictures: str = "") -> None:
        """Add a table for each metric, its name before ``caption``, and the gallery called ``pictures``."""
        for metric in metrics:
            report.table(score_table(self.rows, metric), f"{title(metric)}{caption}")
        if pictures and self.pictures:
            report.gallery(list(self.pictures), pictures)


def run_bench(task_name: str, source: str, out: Path, **options: Any) -> tuple[BenchResult, list[Table]]:
    """Run a task's bench and write its folder.

    Args:
        task_name: name of the task.
        source: source string.
        out: folder for ``scores.json``, ``results.csv`` and ``report.html``; finished cells are kept
            there too, so that an interrupted bench goes on where it stopped.
        options: settings, training settings, hyper-parameters and the bench's own options.

    Returns:
        The rows and one table per metric.

    Raises:
        ConfigError: an option that this task's bench does not have. DataError: ``out`` cannot be written.
    """
    folder = RunFolder(out)
    check_writable(folder.report)
    bench = resolve(task_named(task_name).bench)
    if isinstance(bench, type) and issubclass(bench, Bench):
        result = bench(source, out=out, **options).run()
    else:
        _known(task_name, bench, options)
        result = BenchResult(**bench(source, out=out, **options))
    tables = [score_table(result.rows, metric) for metric in result.metrics]
    write_csv(folder.results, result.rows)
    folder.write_scores(
        {
            "task": task_name,
            "source": source,
            "facts": dict(result.facts),
            "scores": _scores(result),
            "environment": environment(),
        }
    )
    _report(task_name, source, result, tables).save(folder.report)
    return result, tables


def _known(task_name: str, run: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that the task's bench function does not take; one that takes any checks them itself."""
    parameters = inspect.signature(run).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("out", "progress")]
    for name in options:
        if name != "progress" and name not in names:
            raise unknown_name("option", name, names, where=f"bench {task_name}")


def against_cost(result: BenchResult, cost: str) -> dict[str, tuple[float, float]]:
    """(cost, headline score) of each method: means over seeds of the last group that has both."""
    points: dict[str, tuple[float, float]] = {}
    for row in result.rows:
        method, group = str(row["method"]), str(row["group"])
        prices, scores = (scores_of(result.rows, method, group, m) for m in (cost, result.metrics[0]))
        if prices and scores:
            points[method] = (spread(prices)[0], spread(scores)[0])
    return points


def _scores(result: BenchResult) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """method -> group -> metric -> mean and std."""
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in result.rows:
        cell = out.setdefault(str(row["method"]), {}).setdefault(str(row["group"]), {})
        for metric in result.metrics:
            numbers = scores_of(result.rows, row["method"], row["group"], metric)
            if numbers and metric not in cell:
                mean, std = spread(numbers)
                cell[metric] = {"mean": mean, "std": std, "seeds": len(numbers)}
    return out


def named(metric: str) -> str:
    """A metric in words, with its name in the CSV file behind them."""
    words = title(metric)
    return metric if words == metric else f"{words} ({metric})"


def _report(task_name: str, source: str, result: BenchResult, tables: list[Table]) -> Report:
    report = Report(f"Bench: {task_name}", f"{source}: {task_named(task_name).problem}")
    for table in tables:
        report.table(table, f"{named(table.columns[0])}: mean and standard deviation over seeds")
    points = against_cost(result, result.cost) if result.cost else {}
    if result.cost and points:
        report.figure(
            scatter(points, result.cost, result.metrics[0]), f"{title(result.metrics[0])} against cost"
        )
    if result.pictures:
        report.gallery(list(result.pictures), "Best and worst cases")
    report.section("Settings and protocol")
    report.facts(dict(result.facts))
    report.section("Environment")
    report.facts(environment())
    return report
