"""The room's part of the tour: the same questions with fewer tokens and a smaller cache."""

from __future__ import annotations

from pathlib import Path

from wildsight.compression.bench import bench
from wildsight.report import Report
from wildsight.results import score_table


def demo(report: Report, folder: Path, quick: bool) -> None:
    """Write the problem, what is kept of a picture, and the cost card of a few methods.

    Args:
        report: the page to write to.
        folder: for what the demonstration leaves; finished parts in it are not run again.
        quick: a shorter budget.
    """
    methods = ["scope", "vtc-cls", "prefixkv", "h2o"]
    methods += [] if quick else ["hybrid", "fastv", "snapkv"]
    result = bench(
        "world",
        out=folder,
        methods=methods,
        seeds=1,
        tokens=(0.25,) if quick else (0.5, 0.25, 0.125),
        shares=(0.3,) if quick else (0.5, 0.2),
        count=100 if quick else 250,
        repeats=1,
        positions="original",
    )
    for metric in ("accuracy", "perplexity", "speedup", "limit", "cache_kib"):
        report.table(score_table(result["rows"], metric), f"{metric}: a demonstration, one run")
    report.gallery(list(result["pictures"]), "The tokens that the language model still reads")
