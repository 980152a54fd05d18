"""Two runs side by side: what changed in their scores, their settings and their environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildsight.errors import DataError
from wildsight.files import read_json
from wildsight.report import Report
from wildsight.results import RunFolder, Table


@dataclass(frozen=True)
class Comparison:
    """What two runs' ``scores.json`` share and where they differ.

    Attributes:
        scores: name, first, second, difference; only numbers that both have.
        changes: name, first, second; everything else that differs, "-" where one lacks it.
    """

    scores: Table
    changes: Table

    @property
    def moved(self) -> Table:
        """The scores that differ, as text."""
        rows = [[n, f"{a:.4f}", f"{b:.4f}", f"{d:+.4f}"] for n, a, b, d in self.scores.rows if d != 0]
        return Table(self.scores.columns, rows)

    @property
    def summary(self) -> str:
        """How many of the shared scores moved."""
        return f"{len(self.moved.rows)} of {len(self.scores.rows)} scores moved"


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and lists, with dotted names.

    A list of mappings that name themselves (``category``, ``method``, ``group``) is keyed by these names.

    >>> dict(flat({"a": {"b": 1}, "rows": [{"category": "x", "auc": 0.5}]}))
    {'a.b': 1, 'rows.x.auc': 0.5}
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            labels = [str(inner[k]) for k in LABELS if k in inner] if isinstance(inner, dict) else []
            rest = {k: v for k, v in inner.items() if k not in LABELS} if labels else inner
            yield from flat(rest, f"{name}.{'.'.join(labels) or number}")
    else:
        yield name, value


LABELS = ("method", "seed", "group", "category", "image")


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two run folders, or two ``scores.json`` files.

    Raises:
        DataError: a folder without scores, or a file that is not JSON.
    """
    one, two = dict(flat(_scores(first))), dict(flat(_scores(second)))
    names = list(dict.fromkeys([*one, *two]))
    numeric = [n for n in names if _number(one.get(n)) and _number(two.get(n))]
    scores = [[n, one[n], two[n], two[n] - one[n]] for n in numeric]
    other = [n for n in names if n not in set(numeric) and one.get(n) != two.get(n)]
    changes = [[n, one.get(n, "-"), two.get(n, "-")] for n in other]
    return Comparison(
        Table(["score", "first", "second", "difference"], scores),
        Table(["setting", "first", "second"], changes),
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scores(path: str | Path) -> Any:
    file = RunFolder(Path(path)).scores if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise DataError("holds no scores.json", where=path, hint="name the folder of a finished run")
    return read_json(file)


def write_comparison(result: Comparison, first: str, second: str, out: Path) -> Path:
    """One page with both tables."""
    report = Report("Two runs", f"{first} against {second}")
    report.table(result.moved, result.summary)
    report.section("What else differs")
    report.table(result.changes)
    return report.save(out)
