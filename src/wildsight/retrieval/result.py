"""What the task returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL.Image import Image

from wildsight.estimators.evaluation import Evaluation, short
from wildsight.images import load_image
from wildsight.results import Result, Table
from wildsight.retrieval.collection import Hit

if TYPE_CHECKING:
    from wildsight.report import Report


@dataclass(frozen=True)
class SearchResult(Result):
    """Photos found for one query, nearest first.

    Attributes:
        query: the sketch's file, or None for a picture in memory.
        hits: content hash, path and distance of each photo.
        warnings: what seemed odd about the query.
    """

    query: Path | None
    hits: tuple[Hit, ...]
    warnings: tuple[str, ...] = ()

    def line(self) -> str:
        """Warnings, then query, photo and distance of each hit, one a line."""
        warnings = [f"{self.query}: {warning}" for warning in self.warnings]
        found = [f"{self.query}\t{hit.path}\t{hit.distance:.4f}" for hit in self.hits]
        return "\n".join([*warnings, *(found or [f"{self.query}: no photo in the index"])])

    def figure(self, *, sketch: Image | None = None, columns: int = 8) -> Any:
        """The query and the nearest photos in one row, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        first = sketch if sketch is not None else load_image(self.query) if self.query else None
        shown = [] if first is None else [(first, "query")]
        shown += [(load_image(h.path), f"{h.distance:.3f}") for h in self.hits[:columns] if h.path.is_file()]
        return side_by_side(shown)


@dataclass(frozen=True, kw_only=True)
class RetrievalEvaluation(Evaluation):
    """Scores on classes that were not trained: one row, every metric by name (`wildsight.retrieval.metrics`).

    Attributes:
        embeddings: (sketches [Q, D], photos [N, D]).
        files: (sketch files, photo files).
        labels: (sketch classes, photo classes), names.
        untouched: the same with the tower's own features, where it was asked for.
    """

    embeddings: tuple[np.ndarray, np.ndarray]
    files: tuple[list[Path], list[Path]]
    labels: tuple[list[str], list[str]]
    untouched: RetrievalEvaluation | None = None

    group: ClassVar[str] = "classes"
    caption: ClassVar[str] = "Means over the queries"

    @property
    def row(self) -> dict[str, float]:
        """Every metric by name."""
        return {name: value for name, value in self.rows[-1].items() if name != self.group}

    def table(self) -> Table:
        """A metric a line, beside that of the untouched tower where it was measured."""
        columns = [self.row] if self.untouched is None else [self.row, self.untouched.row]
        body = [[name, *(short(column[name]) for column in columns)] for name in self.row]
        return Table(["metric", *("trained", "tower untouched")[: len(columns)]], body)

    def show(self, report: Report) -> None:
        """The classes in the plane, before and after the training."""
        from wildsight.retrieval.figures import map_figure

        if self.untouched is not None:
            figure = map_figure(self.untouched.embeddings, self.labels, "before training")
            report.figure(figure, "Crosses are sketches, dots photos")
        figure = map_figure(self.embeddings, self.labels, "after training")
        report.figure(figure, "The same classes, none of them trained")

    def pictures(self, each: int = 4) -> list[tuple[Image, str]]:
        """The queries answered best and worst: a green frame for the right class."""
        from wildsight.retrieval.figures import best_and_worst

        return best_and_worst(self.embeddings, self.labels, self.files, each)
