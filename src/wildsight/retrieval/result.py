"""What the task returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.images import load_image
from wildsight.results import Result
from wildsight.retrieval.collection import Hit


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

    def figure(self, *, sketch: Image | None = None, columns: int = 8) -> Any:
        """The query and the nearest photos in one row, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        first = sketch if sketch is not None else load_image(self.query) if self.query else None
        shown = [] if first is None else [(first, "query")]
        shown += [(load_image(h.path), f"{h.distance:.3f}") for h in self.hits[:columns] if h.path.is_file()]
        return side_by_side(shown)


@dataclass(frozen=True)
class Evaluation:
    """Scores on classes that were not trained.

    Attributes:
        row: every metric by name; see `wildsight.retrieval.metrics`.
        embeddings: (sketches [Q, D], photos [N, D]).
        files: (sketch files, photo files).
        labels: (sketch classes, photo classes), names.
        errors: one sentence per unreadable picture.
        protocol: split, its hash and its assumptions.
    """

    row: dict[str, float]
    embeddings: tuple[np.ndarray, np.ndarray]
    files: tuple[list[Path], list[Path]]
    labels: tuple[list[str], list[str]]
    errors: list[str]
    protocol: dict[str, Any]
