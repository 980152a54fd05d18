"""What runs leave in their folder: ``scores.json``, ``results.csv``, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.composition.metrics import curve, exact_scores, predicted
from wildsight.composition.recognizer import CompositionRecognizer
from wildsight.composition.result import Evaluation, PairResult
from wildsight.images import load_image
from wildsight.report import Report
from wildsight.report.plots import curve as line_plot
from wildsight.report.plots import new_figure
from wildsight.results import RunFolder, Table, environment, write_csv

SHOWN = 36
CONFUSED = 30


def write_fit(model: CompositionRecognizer, source: str, out: Path) -> Path:
    """The folder of a fit; returns its report."""
    folder = RunFolder(out)
    rows = [{"attribute": a, "object": o} for a, o in model.knowledge.seen]
    write_csv(folder.results, rows)
    facts = {"source": source, "calibration": vars(model.calibration), "fitted on": model.fitted_on}
    folder.write_scores({**facts, "environment": environment()})
    report = Report("Composition recognizer", f"{model.settings.method} on {source}")
    report.facts({**vars(model.settings), "hyper-parameters": vars(model.config), **model.fitted_on})
    if model.history is not None and model.history.epochs:
        names = [n for n in model.history.epochs[0] if n not in ("epoch", "lr", "seconds")]
        report.figure(line_plot({n: model.history.curve(n) for n in names}, "losses over epochs"))
    report.section("Calibration, on pictures that were not trained on")
    report.facts(vars(model.calibration))
    report.section("Environment")
    report.facts(environment())
    return report.save(folder.report)


def write_evaluation(model: CompositionRecognizer, evaluation: Evaluation, source: str, out: Path) -> Path:
    """The folder of an evaluation; returns its report."""
    folder = RunFolder(out)
    write_csv(folder.results, evaluation.rows)
    scores = {"source": source, "protocol": evaluation.protocol, "scores": evaluation.rows}
    folder.write_scores({**scores, "not_read": evaluation.errors, "environment": environment()})
    report = Report("Evaluation", f"{model.settings.method} on {source}")
    report.table(score_sheet(evaluation.rows), "`exact` protocol, and `field_*` as published figures use")
    for error in evaluation.errors:
        report.warning(error)
    show_evaluation(report, evaluation)
    report.facts({**vars(model.settings), **evaluation.protocol, **environment()})
    return report.save(folder.report)


def score_sheet(rows: Sequence[dict[str, Any]]) -> Table:
    """Metrics down, worlds across."""
    names = [n for n in rows[0] if n != "world"]
    body = [[n, *(_short(r.get(n, "-")) for r in rows)] for n in names]
    return Table(["", *(str(r["world"]) for r in rows)], body)


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def show_evaluation(report: Report, evaluation: Evaluation) -> None:
    """The seen-unseen curve, the confused pairs, and pictures with their best pairs."""
    report.section("Seen against unseen accuracy")
    report.figure(seen_unseen_figure(evaluation), "Each point is one bias of the unseen pairs")
    report.section("Confused pairs")
    report.figure(confusion_figure(evaluation), f"The {CONFUSED} most frequent pairs, rows are true")
    report.gallery(cases(evaluation), "Pictures, worst first")


def seen_unseen_figure(evaluation: Evaluation) -> Any:
    """The exact curve, with the point of the calibrated bias."""
    _, seen, unseen = curve(evaluation.top)
    figure, axes = new_figure(size=(5.0, 4.0))
    axes[0].plot(seen, unseen, drawstyle="steps-post")
    row = evaluation.rows[0]
    axes[0].plot([row["seen"]], [row["unseen"]], "o", label=f"calibrated bias {evaluation.bias:.3f}")
    axes[0].set_xlabel("accuracy on seen pairs")
    axes[0].set_ylabel("accuracy on unseen pairs")
    axes[0].set_title(f"AUC {exact_scores(evaluation.top)['auc']:.3f}")
    axes[0].legend()
    return figure


def confusion_figure(evaluation: Evaluation) -> Any:
    """Shares of predicted pairs (columns) for each true pair (rows); unseen pairs are marked."""
    top, names = evaluation.top, evaluation.candidates.pairs
    best = predicted(top, evaluation.bias)[:, 0]
    counts = np.bincount(top.truth[top.truth >= 0], minlength=len(names))
    chosen = sorted(np.argsort(-counts, kind="stable")[:CONFUSED].tolist())
    share = np.array(
        [[np.mean(best[top.truth == i] == j) if counts[i] else 0.0 for j in chosen] for i in chosen]
    )
    figure, axes = new_figure(size=(8.0, 7.0))
    axes[0].imshow(share, vmin=0, vmax=1, cmap="viridis")
    seen = evaluation.candidates.seen
    labels = [" ".join(names[i]) + ("" if seen[i] else " (unseen)") for i in chosen]
    axes[0].set_yticks(range(len(chosen)), labels, fontsize=6)
    axes[0].set_xticks(range(len(chosen)), labels, fontsize=6, rotation=90)
    return figure


def cases(evaluation: Evaluation, count: int = 12) -> list[tuple[Any, str]]:
    """Pictures whose true pair fell furthest behind, then those that won by most."""
    top = evaluation.top
    shift = np.where(top.truth_seen, 0.0, evaluation.bias)
    best = np.maximum(top.seen[:, 0], top.unseen[:, 0] + evaluation.bias)
    margin = top.truth_score + shift - best
    order = np.argsort(margin, kind="stable")
    right = order[margin[order] >= 0]
    chosen = [*order[: count // 2].tolist(), *right[-(count // 2) :].tolist()]
    names = evaluation.candidates.pairs
    shown = []
    for i in chosen:
        told = [" ".join(names[j]) for j in predicted(top, evaluation.bias, 3)[i] if j >= 0]
        sample = evaluation.samples[i]
        kind = "seen" if top.truth_seen[i] else "unseen"
        caption = f"{sample.attribute} {sample.object} ({kind}): {', '.join(told)}"
        shown.append((load_image(sample.image), caption))
    return shown


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
