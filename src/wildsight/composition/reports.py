"""What a prediction leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wildsight.composition.result import PairResult
from wildsight.images import load_image
from wildsight.report import Report
from wildsight.results import RunFolder, environment, write_csv

SHOWN = 36


def write_predictions(results: Sequence[PairResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction; returns its report."""
    folder = RunFolder(out)
    flat = ("image", "attribute", "object", "probability", "known")
    write_csv(folder.results, [{k: r.to_dict()[k] for k in flat} for r in results])
    facts = {"pictures": [r.to_dict() for r in results], "not_read": list(errors)}
    folder.write_scores({**facts, "environment": environment()})
    report = Report("Compositions", f"{len(results)} pictures")
    for error in errors:
        report.warning(f"not read: {error}")
    doubtful = sorted((r for r in results if r.image), key=lambda r: r.probability)[:SHOWN]
    pictures = [(load_image(r.image), _caption(r)) for r in doubtful if r.image]
    report.gallery(pictures, "Least certain first")
    return report.save(folder.report)


def _caption(result: PairResult) -> str:
    best = ", ".join(f"{p.text} {p.probability:.2f}" for p in result.pairs[:3])
    return best if result.known else f"none of these (best: {best})"
