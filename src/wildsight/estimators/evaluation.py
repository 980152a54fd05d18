"""What `evaluate` returns, in every task: rows of metrics, how they came about, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from wildsight.results import Table, summarised

if TYPE_CHECKING:
    from wildsight.report import Report


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores on a data set; a task's own class adds what its reports show.

    Attributes:
        rows: one mapping per group (category, world, condition, ...), the overall one last or alone.
        errors: one sentence per picture or mask that could not be used.
        protocol: the split, its hash and its assumptions.
    """

    rows: list[dict[str, Any]]
    errors: list[str] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)

    group: ClassVar[str] = "category"
    """The key of a row that names its group."""
    caption: ClassVar[str] = "Scores per group"
    """Notes above the table of a report."""

    @property
    def overall(self) -> dict[str, Any]:
        """The row of the whole set: the last one."""
        return self.rows[-1]

    def table(self) -> Table:
        """The rows, numbers with four digits."""
        return table_of(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: rows, errors and protocol."""
        return {"scores": summarised(self.rows), "not_read": self.errors, "protocol": self.protocol}

    def notes(self) -> list[str]:
        """What a reader of the scores must know beside the errors; nothing here."""
        return []

    def summary(self) -> list[str]:
        """The answer in sentences, before the table; nothing here."""
        return []

    def show(self, report: Report) -> None:
        """Add the task's own figures to a report; none here."""

    def pictures(self) -> list[tuple[Any, str]]:
        """Best and worst cases with captions, for reports and benches; none here."""
        return []


def table_of(rows: Sequence[dict[str, Any]], digits: int = 4) -> Table:
    """Mappings as a table, floats with ``digits`` digits; a key that a row lacks is a dash.

    >>> table_of([{"category": "mean", "auc": 0.5}]).rows
    [['mean', '0.5000']]
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(columns, [[short(row.get(name, "-"), digits) for name in columns] for row in rows])


def short(value: Any, digits: int = 4) -> str:
    """A value for people: floats rounded, None as a dash."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
