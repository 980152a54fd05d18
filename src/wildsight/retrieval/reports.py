"""What a search leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.estimators.predictions import Predictions, write_all
from wildsight.estimators.reporting import shortened
from wildsight.report import Report
from wildsight.results import Table
from wildsight.retrieval.figures import SHOWN, strip
from wildsight.retrieval.result import SearchResult


class RetrievalPredictions(Predictions[SearchResult]):
    """A row per photo; the first sketches with their photos in the report."""

    title, entries = "Photos by sketch", "queries"
    caption = "further sketches: see results.csv"

    def __init__(self, out: str | Path, **options: Any) -> None:
        super().__init__(out, **options)
        self.first: list[SearchResult] = []
        self.remarks: list[str] = []

    def rows(self, result: SearchResult) -> list[Mapping[str, Any]]:
        """A row per photo."""
        hits = enumerate(result.hits, 1)
        query = str(result.query)
        return [
            {"query": query, "rank": n, "photo": str(h.path), "distance": h.distance, "id": h.id}
            for n, h in hits
        ]

    def draw(self, number: int, result: SearchResult, picture: Image | None) -> None:
        """The query and its photos in a row."""
        self.remarks += [f"{result.query}: {warning}" for warning in result.warnings]
        if number >= self.shown:
            return
        self.first.append(result)
        photos = [h.path for h in result.hits[: 2 * SHOWN] if h.path.is_file()]
        sketch = self.picture_of(result.query, picture)
        if sketch is not None and photos:
            self.gallery.add(number, strip(sketch, photos), str(result.query))

    def subtitle(self) -> str:
        """How many sketches."""
        return f"{self.count} sketches"

    def warnings(self) -> list[str]:
        """What is odd about sketches."""
        return shortened(self.remarks)

    def show(self, report: Report) -> None:
        """Each of the first sketches, its photos and their distances."""
        strips = {caption: picture for picture, caption in self.gallery.pictures()}
        for result in self.first:
            if str(result.query) in strips:
                report.figure(strips[str(result.query)], str(result.query))
            table = [[n, h.path, f"{h.distance:.4f}"] for n, h in enumerate(result.hits, 1)]
            report.table(Table(["rank", "photo", "distance"], table))
        if self.count > len(self.first):
            report.text(f"{self.count - len(self.first)} {self.caption}")


def write_predictions(results: Sequence[SearchResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a search; returns its report.

    Args:
        results: one per readable sketch.
        errors: one sentence per sketch that could not be read.
        out: the folder.

    Raises:
        DataError: the folder cannot be written.
    """
    return write_all(RetrievalPredictions(out), results, errors)
