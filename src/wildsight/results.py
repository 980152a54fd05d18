"""What a run leaves: results, tables, and one folder with the same file names for every task."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import math
import os
import platform
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildsight.errors import CheckpointError, needs
from wildsight.files import RUN, explained, read_json, write_json, write_text

SMALL = 16


@dataclass(frozen=True)
class Result(ABC):
    """Base of the tasks' frozen result dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able summary, one entry per field; see `summarised`."""
        return {f.name: summarised(getattr(self, f.name)) for f in fields(self)}

    @abstractmethod
    def figure(self) -> Any:
        """A matplotlib figure of the result."""


@dataclass(frozen=True)
class Mark:
    """A part of a picture that a result marks.

    Attributes:
        label: its class.
        mask: [H, W] bool, at the picture's size.
        score: how sure the method is, where it tells; its unit is the method's.
    """

    label: str
    mask: NDArray[np.bool_]
    score: float | None = None


@dataclass(frozen=True)
class MarkedResult(Result):
    """Base of the results that mark parts of a picture."""

    @abstractmethod
    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:
        """The parts that are marked.

        Args:
            size: (width, height) of the picture, where the result does not know it.
        """

    def to_supervision(self, size: tuple[int, int] | None = None) -> Any:
        """The marks as `supervision.Detections`: boxes, masks, class ids, names and scores.

        Args:
            size: as of `marks`.

        Raises:
            ConfigError: supervision is not installed.
        """
        with needs("supervision", "annotations"):
            import supervision
        marks = [mark for mark in self.marks(size) if mark.mask.any()]
        if not marks:
            return supervision.Detections.empty()
        masks = np.stack([mark.mask for mark in marks])
        names = sorted({mark.label for mark in marks})
        scored = all(mark.score is not None for mark in marks)
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            confidence=np.array([mark.score for mark in marks], np.float32) if scored else None,
            class_id=np.array([names.index(mark.label) for mark in marks]),
            data={"class_name": np.array([mark.label for mark in marks])},
        )


def summarised(value: Any) -> Any:
    """The JSON-able form of a field.

    Arrays and tensors of at most 16 elements are listed; larger ones become their shape, dtype, minimum,
    maximum and mean. NaN and infinity, which JSON lacks, become None.

    Raises:
        TypeError: a value of another kind; override ``to_dict`` in the task's result.

    >>> summarised({"box": (1, 2.5), "score": float("nan")})
    {'box': [1, 2.5], 'score': None}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _array(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: summarised(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): summarised(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [summarised(v) for v in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _array(value: Any) -> Any:
    """Numpy arrays and scalars, and tensors on any device."""
    if math.prod(value.shape) <= SMALL:
        return summarised(value.tolist())
    numbers = value.detach().cpu().double() if hasattr(value, "detach") else value.astype("float64")
    summary = {"shape": list(value.shape), "dtype": str(value.dtype)}
    return summary | {n: summarised(float(getattr(numbers, n)())) for n in ("min", "max", "mean")}


@dataclass(frozen=True)
class Table:
    """Columns and rows, printable in three forms.

    >>> print(Table(["a", "b"], [[1, 2]]).markdown())
    | a | b |
    |---|---|
    | 1 | 2 |
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """GitHub-flavoured Markdown; a bar in a cell is escaped, a line break becomes a space."""
        head, *body = [
            "| " + " | ".join(_cell(c) for c in line) + " |" for line in (self.columns, *self.rows)
        ]
        return "\n".join([head, "|" + "---|" * len(self.columns), *body])

    def csv(self) -> str:
        """Comma-separated values with a header."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return stream.getvalue()

    def rich(self) -> Any:
        """A table for the terminal."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable()
        for column in self.columns:
            table.add_column(Text(str(column)), overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(str(value)) for value in row))
        return table


def _cell(value: Any) -> str:
    return " ".join(str(value).splitlines()).replace("|", "\\|")


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write mappings as CSV, whole or not at all; the columns are the union of their keys in order."""
    many = list(rows)
    columns = list(dict.fromkeys(key for row in many for key in row))
    write_text(path, Table(columns, [[row.get(c, "") for c in columns] for row in many]).csv())


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value).

    >>> spread([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def mean_std_text(values: Sequence[float], digits: int = 3) -> str:
    """``mean ± std``, or the value alone when there is one.

    >>> mean_std_text([0.5])
    '0.500'
    """
    mean, std = spread(values)
    return f"{mean:.{digits}f} ± {std:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def scores_of(rows: Sequence[Mapping[str, Any]], method: str, group: str, metric: str) -> list[float]:
    """One metric of one method and group over the seeds, in the order of the rows.

    Args:
        rows: one mapping per method, seed and group: ``method``, ``seed``, ``group`` and the metrics.
        method: which method.
        group: which group: a category, or ``mean`` over categories.
        metric: which metric.
    """
    chosen = (r for r in rows if r["method"] == method and r["group"] == group)
    return [float(r[metric]) for r in chosen if r.get(metric) is not None]


TITLES = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "image_ap": "Image average precision",
    "pixel_ap": "Pixel average precision",
    "pixel_f1max": "Best pixel F1",
    "auc": "Area under the seen-unseen curve",
    "hm": "Best harmonic mean of seen and unseen",
    "hm_calibrated": "Harmonic mean at the calibrated bias",
    "best_seen": "Best accuracy on seen pairs",
    "best_unseen": "Best accuracy on unseen pairs",
    "transfer": "Transfer: accuracy before a task is learned",
    "avg": "Average accuracy over all steps",
    "last": "Accuracy after the last task",
    "all": "Accuracy on all unlabelled pictures",
    "old": "Accuracy on those of known classes",
    "new": "Accuracy on those of new classes",
    "miou": "Mean IoU",
    "macc": "Mean recall of the classes",
    "acc": "Accuracy of the pixels",
    "map_all": "mAP over the whole gallery",
    "p_100": "Precision at 100",
    "p_200": "Precision at 200",
    "iou": "IoU",
    "boundary_iou": "Boundary IoU",
    "draft_iou": "IoU of the draft",
    "draft_boundary_iou": "Boundary IoU of the draft",
    "acc@0.25": "Boxes with IoU of 0.25 or more",
    "acc@0.5": "Boxes with IoU of 0.5 or more",
    "depth_error": "Error of the depth, metres",
    "fit_seconds": "Seconds of training",
    "accuracy": "Answers that are right",
    "perplexity": "Perplexity of the true answers",
    "cache_kib": "Cache per prompt, KiB",
    "speedup": "Speed-up",
    "limit": "Speed-up that the operations allow",
}
"""What a metric's column is called where people read it."""


def title(metric: str) -> str:
    """A metric in words; its own name where it has no other.

    >>> title("image_auroc"), title("s")
    ('Image AUROC', 's')
    """
    return TITLES.get(metric, metric)


def score_table(rows: Sequence[Mapping[str, Any]], metric: str) -> Table:
    """Groups down, methods across, mean and standard deviation over seeds in each cell.

    >>> score_table([{"method": "a", "seed": 0, "group": "mean", "auc": 0.5}], "auc").rows
    [['mean', '0.500']]
    """
    methods = list(dict.fromkeys(str(r["method"]) for r in rows))
    groups = list(dict.fromkeys(str(r["group"]) for r in rows))
    cells = [[scores_of(rows, m, g, metric) for m in methods] for g in groups]
    body = [
        [g, *(mean_std_text(c) if c else "-" for c in line)] for g, line in zip(groups, cells, strict=True)
    ]
    return Table([metric, *methods], body)


@dataclass(frozen=True)
class RunFolder:
    """The names inside a run's folder."""

    path: Path

    @property
    def scores(self) -> Path:
        """``scores.json``."""
        return self.path / "scores.json"

    @property
    def results(self) -> Path:
        """``results.csv``."""
        return self.path / "results.csv"

    @property
    def report(self) -> Path:
        """``report.html``."""
        return self.path / "report.html"

    @property
    def checkpoint(self) -> Path:
        """``checkpoint/``."""
        return self.path / "checkpoint"

    def check(self, about: Mapping[str, Any], *, replaces: Sequence[str] = ()) -> dict[str, Any]:
        """Refuse to take the place of a finished run of something else.

        Args:
            about: JSON-able facts; ``pictures`` stands for what it reads.
            replaces: facts that a finished run may have had otherwise.

        Returns:
            What was written of an earlier, finished run; empty where there is none.

        Raises:
            CheckpointError: a finished run of something else is there.
        """
        now = _plain(about)
        before = self._about() if self.report.is_file() else {}
        names = [n for n in now if n in before and before[n] != now[n] and n not in replaces]
        if names:
            hint = "name another folder, or remove this one"
            raise CheckpointError(_other(names, before, now), where=self.path, hint=hint)
        return before

    def mark(self, about: Mapping[str, Any]) -> None:
        """Write what the run is: `RUN`, which `check` compares; a folder that holds it is no input."""
        write_json(self.path / RUN, _plain(about))

    def _about(self) -> dict[str, Any]:
        """What `begin` wrote, or what the scores of an older run say of it."""
        for file in (self.path / RUN, self.scores):
            if file.is_file():
                value = read_json(file)
                settings = value.get("settings", {}) if isinstance(value, dict) else {}
                return value if file.name == RUN else {k: settings[k] for k in ("method",) if k in settings}
        return {}

    def write_scores(self, value: Mapping[str, Any]) -> None:
        """Write ``scores.json``."""
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.scores, dict(value))


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as a JSON file gives them back."""
    facts: dict[str, Any] = json.loads(json.dumps(dict(about), default=str))
    return facts


def _other(names: Sequence[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What tells a finished run from another, the plainest first."""
    name = next((n for n in ("command", "task", "method", "backbone", "hyper") if n in names), names[0])
    if name == "pictures":
        return "holds a finished run with other pictures"
    return f"holds a finished run with {name}={before[name]}, not {now[name]}"


PACKAGES = ("wildsight", "torch", "transformers", "accelerate", "numpy", "scipy", "scikit-learn", "pillow")


def version_of(package: str) -> str | None:
    """Installed version, or None; imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, str]:
    """Versions that matter, platform and cores, without importing torch."""
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
    }
    return facts | {name: version_of(name) or "not installed" for name in PACKAGES}
