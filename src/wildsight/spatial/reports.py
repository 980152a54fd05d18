"""What a fit, a prediction and an evaluation leave in their folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from wildsight.files import atomic_path
from wildsight.report import Report
from wildsight.report.plots import curve
from wildsight.results import RunFolder, Table, environment, write_csv
from wildsight.spatial.drawing import from_above, on_picture, side_by_side
from wildsight.spatial.grounder import SpatialGrounder
from wildsight.spatial.result import GroundingResult, SpatialEvaluation
from wildsight.spatial.samples import SpatialData, SpatialSample

SHOWN = 24
PARTS = ("loss", "xy", "z", "size", "rotation", "there")


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Mappings as a table, three digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Table(columns, [[_short(row.get(c, "-")) for c in columns] for row in rows])


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_fit(grounder: SpatialGrounder, source: str, out: Path) -> Path:
    """The folder of a fit; returns the report."""
    folder, epochs = RunFolder(out), grounder.history.epochs if grounder.history else []
    write_csv(folder.results, epochs)
    folder.write_scores({"source": source, "fitted_on": grounder.fitted_on, "environment": environment()})
    report = Report("Spatial grounder", f"{grounder.settings.method} on {source}")
    report.facts({**vars(grounder.settings), **vars(grounder.config)})
    if epochs and grounder.history:
        lines = {n: grounder.history.curve(n) for n in PARTS if n in epochs[0]}
        report.figure(curve(lines, "losses over epochs"), "Training losses, metres for the corner losses")
    report.section("Data and environment")
    report.facts({**grounder.fitted_on, **environment()})
    return report.save(folder.report)


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
    found = [r.to_dict() for r in results]
    folder.write_scores({"questions": found, "not_asked": list(errors), "environment": environment()})
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
    told = {"image": str(result.image or ""), "expression": result.expression, "answer": result.answer}
    return {**told, **flat, "flags": " ".join(result.flags)}


def write_evaluation(
    evaluation: SpatialEvaluation,
    grounder: SpatialGrounder,
    source: str,
    pictures: Sequence[tuple[Image, str]],
    out: Path,
) -> Path:
    """The folder of an evaluation; returns the report."""
    folder = RunFolder(out)
    write_csv(folder.results, evaluation.rows)
    scores = {"source": source, "protocol": dict(evaluation.protocol), "scores": evaluation.rows}
    folder.write_scores({**scores, "not_asked": evaluation.errors, "environment": environment()})
    report = Report("Evaluation", f"{grounder.settings.method} on {source}")
    for error in evaluation.errors:
        report.warning(f"not asked: {error}")
    if "2D box" in evaluation.protocol:
        report.warning("ORACLE: this method is told the true 2D box.")
    report.table(table_of(evaluation.rows), "Per group and together; metres, radians, shares")
    report.gallery(list(pictures), "Worst, then best: truth in green; the picture and from above")
    report.facts({**vars(grounder.settings), **evaluation.protocol, **environment()})
    return report.save(folder.report)


def best_and_worst(
    evaluation: SpatialEvaluation, data: SpatialData, each: int = 4
) -> list[tuple[Image, str]]:
    """Strips of the questions answered worst and best."""
    samples = {s.name: s for s in data.samples}
    order = sorted(range(len(evaluation.names)), key=lambda i: evaluation.scores[i])
    chosen = list(dict.fromkeys([*order[:each], *order[-each:]]))
    return [_strip(evaluation, i, samples) for i in chosen]


def at_ranks(
    evaluation: SpatialEvaluation, data: SpatialData, shares: Sequence[float] = (0.1, 0.5, 0.9)
) -> list[tuple[Image, str]]:
    """Strips of the questions with a box, at shares of their order from worst to best."""
    samples = {s.name: s for s in data.samples}
    asked = [i for i, name in enumerate(evaluation.names) if samples[name].targets]
    order = sorted(asked, key=lambda i: evaluation.scores[i])
    return [_strip(evaluation, order[int(share * (len(order) - 1))], samples) for share in shares]


def _strip(evaluation: SpatialEvaluation, i: int, samples: Mapping[str, SpatialSample]) -> tuple[Image, str]:
    """Question number i: picture and view from above, and a caption."""
    sample, found = samples[evaluation.names[i]], evaluation.found[i]
    drawn = on_picture(sample.picture(), sample.camera.matrix, found, sample.targets)
    above = from_above(found, sample.targets, sample.others)
    caption = f"IoU {evaluation.scores[i]:.2f}, {sample.group}: {sample.expression}"
    return side_by_side([drawn, above], 200), caption
