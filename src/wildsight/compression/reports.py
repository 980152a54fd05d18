"""What a run of this task leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wildsight.compression.result import CompressedAnswer
from wildsight.report import Report
from wildsight.results import RunFolder, environment, write_csv


def write_answer(result: CompressedAnswer, options: Mapping[str, Any], out: Path) -> Path:
    """The folder of one answer; returns its report.

    Args:
        result: what was answered.
        options: how the model was compressed.
        out: the folder.
    """
    folder = RunFolder(out)
    value = result.to_dict()
    write_csv(folder.results, [{k: v for k, v in value.items() if not isinstance(v, list | dict)}])
    folder.write_scores({"answer": value, "settings": dict(options), "environment": environment()})
    report = Report("Compressed answer", f"{result.question}: {result.answer}")
    report.facts({"full model's answer": result.full_answer, **options, **result.cost})
    if result.grid is not None or result.layers:
        report.figure(result.figure(), "What was kept")
    report.section("Environment")
    report.facts(environment())
    return report.save(folder.report)
