"""What a prediction leaves in its folder: ``scores.json``, ``results.csv``, ``report.html``, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.files import atomic_path
from wildsight.report import Report
from wildsight.results import RunFolder, environment, write_csv
from wildsight.spatial.result import GroundingResult

SHOWN = 24


def write_predictions(results: Sequence[GroundingResult], errors: Sequence[str], out: Path) -> Path:
    """The folder of a prediction: a strip and a glTF file per question; returns the report."""
    folder = RunFolder(out)
    shown: list[tuple[Image, str]] = []
    for number, result in enumerate(results):
        strip = result.strip()
        with atomic_path(out / "pictures" / f"{number:04d}.png") as temporary:
            strip.save(temporary, format="PNG")
        result.save_gltf(out / "boxes" / f"{number:04d}.gltf")
        shown.append((strip, f"{result.expression}: {result.answer} (intrinsics: {result.intrinsics_from})"))
    write_csv(folder.results, [_row(r) for r in results])
    questions = [r.to_dict() for r in results]
    folder.write_scores({"questions": questions, "not_asked": list(errors), "environment": environment()})
    report = Report("Where things are", f"{len(results)} questions")
    for error in errors:
        report.warning(f"not asked: {error}")
    if any(r.intrinsics_from == "estimate" for r in results):
        report.warning("The focal length is a guess: metres are no better than it. Give --focal.")
    report.gallery(shown[:SHOWN], "The box on the picture, and from above (rings: metres)")
    return report.save(folder.report)


def _row(result: GroundingResult) -> dict[str, Any]:
    box = result.boxes[0].to_dict() if result.boxes else {}
    flat = {k: box.get(k, "") for k in ("centre", "size", "yaw", "score", "spread")}
    named = {"image": str(result.image or ""), "expression": result.expression, "answer": result.answer}
    return {**named, **flat, "flags": " ".join(result.flags)}
