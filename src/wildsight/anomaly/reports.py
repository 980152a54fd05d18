"""What a prediction leaves in its folder: overlays, ``results.csv``, ``scores.json``, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wildsight.anomaly.result import AnomalyResult
from wildsight.files import atomic_path, short_name
from wildsight.report import Report
from wildsight.results import RunFolder, environment, write_csv

SHOWN = 48


def write_predictions(results: Sequence[AnomalyResult], errors: Sequence[str], out: Path) -> Path:
    """Write the folder of a prediction.

    Args:
        results: one per readable picture.
        errors: one sentence per picture that could not be read.
        out: the folder.

    Returns:
        The report.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = RunFolder(out)
    shown = []
    for number, result in enumerate(results):
        overlay = result.overlay()
        name = short_name(f"{number:05d}-{result.image.stem if result.image else 'picture'}") + ".png"
        with atomic_path(out / "overlays" / name) as temporary:
            overlay.save(temporary, format="PNG")
        shown.append((result.score / max(result.threshold, 1e-12), overlay, result))
    write_csv(folder.results, [r.to_dict() for r in results])
    scores = {"pictures": [r.to_dict() for r in results], "not_read": list(errors)}
    folder.write_scores({**scores, "environment": environment()})
    report = Report("Anomalies", f"{sum(r.anomalous for r in results)} of {len(results)} pictures anomalous")
    for error in errors:
        report.warning(f"not read: {error}")
    worst = sorted(shown, key=lambda item: -item[0])[:SHOWN]
    report.gallery([(o, f"{r.image}: {x:.2f} x the threshold") for x, o, r in worst], "Highest scores first")
    report.save(folder.report)
    return folder.report
