"""What a search leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wildsight.estimators.reporting import begin_report
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.retrieval.figures import SHOWN, strip
from wildsight.retrieval.result import SearchResult


def write_predictions(results: Sequence[SearchResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a search: a row per photo, and a page with a strip for each query.

    Args:
        results: one per readable sketch.
        errors: one sentence per sketch that could not be read.
        out: the folder.

    Returns:
        The report.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = RunFolder(out)
    rows = [
        {"query": str(r.query), "rank": place + 1, "photo": str(h.path), "distance": h.distance, "id": h.id}
        for r in results
        for place, h in enumerate(r.hits)
    ]
    write_csv(folder.results, rows)
    facts = {"queries": [r.to_dict() for r in results], "not_read": list(errors)}
    folder.write_scores({**facts, "environment": environment()})
    report = begin_report("Photos by sketch", f"{len(results)} sketches", errors)
    for result in results:
        for warning in result.warnings:
            report.warning(f"{result.query}: {warning}")
        photos = [h.path for h in result.hits[: 2 * SHOWN] if h.path.is_file()]
        if result.query is not None and photos:
            report.figure(strip(result.query, photos), str(result.query))
        table = [[n + 1, h.path, f"{h.distance:.4f}"] for n, h in enumerate(result.hits)]
        report.table(Table(["rank", "photo", "distance"], table))
    return report.save(folder.report)
