"""What a run of this task leaves on disk: tables, contact sheets, the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.discovery.discoverer import CategoryDiscoverer
from wildsight.discovery.result import DiscoveryResult, Evaluation, Fitted
from wildsight.discovery.saving import plain
from wildsight.discovery.settings import DiscovererSettings
from wildsight.discovery.sheets import (
    confusion,
    contact_sheet,
    cooccurrence_figure,
    k_curve,
    representatives,
    sampled,
)
from wildsight.discovery.snmf import diagnostics
from wildsight.discovery.sorting import duplicates
from wildsight.files import atomic_path
from wildsight.report import Report
from wildsight.results import RunFolder, Table, environment, summarised, write_csv

SHOWN = 200
"""Contact sheets in the report at most; all of them are in the folder."""
HEADLINE = ("all", "old", "new", "fixed_all", "fixed_old", "fixed_new", "sure", "sure_fixed_all")


def result_row(result: DiscoveryResult, path: str) -> dict[str, Any]:
    """A row of ``results.csv``; ``name`` may be edited, ``group_name`` tells whether it was."""
    return {
        "path": path,
        "group": result.group,
        "kind": result.kind,
        "name": result.name,
        "confidence": round(result.confidence, 4),
        "margin": round(result.margin, 4),
        "nearest_known": result.nearest_known,
        "doubtful": "yes" if result.doubtful else "no",
        "group_name": result.name,
    }


def write_run(discoverer: CategoryDiscoverer, out: Path, title: str) -> Path:
    """Write the run folder of a fit: tables, sheets, scores, report.

    Args:
        discoverer: fitted in this process.
        out: the run's folder.
        title: heading of the report.

    Returns:
        The report.
    """
    fitted, results = discoverer.need_fit(), discoverer.results()
    folder, data = RunFolder(out), fitted.data
    for old in (out / "sheets").glob("[0-9][0-9][0-9]-*.jpg"):
        old.unlink()
    rows = [result_row(r, data.relative(s)) for r, s in zip(results, data.unlabelled, strict=True)]
    groups, sheets = _groups(discoverer, results, out)
    write_csv(folder.results, rows)
    write_csv(out / "groups.csv", groups)
    twins = [(str(a), str(b)) for a, b in duplicates([s.image for s in data.samples])]
    evaluation = discoverer.evaluate(data) if (data.truths()[data.labels() < 0] >= 0).any() else None
    scores = {
        "root": str(data.root.absolute()),
        "known": list(data.known),
        **_settings(discoverer.settings),
        "hyper": plain(discoverer.config),
        **discoverer.fitted_on,
        "groups": groups,
        "doubtful": sum(r.doubtful for r in results),
        "k_curve": _curve(fitted),
        "scores": summarised(evaluation.rows) if evaluation else [],
        "duplicates": twins,
        "not_read": [str(e) for e in fitted.errors],
        "environment": environment(),
    }
    folder.write_scores(scores)
    report = _report(discoverer, title, groups, sheets, twins, evaluation)
    report.save(folder.report)
    return folder.report


def _settings(settings: DiscovererSettings) -> dict[str, Any]:
    return {
        "method": settings.method,
        "backbone": settings.backbone,
        "image_size": settings.views.image_size,
        "space": f"{settings.space.components} components, whitening {settings.space.whiten}",
        "doubt": settings.doubt,
        "seed": settings.seed,
    }


def _curve(fitted: Fitted) -> dict[str, Any]:
    if fitted.estimate is None:
        return {}
    found = fitted.estimate
    curve = {str(k): list(v) for k, v in found.curve.items()}
    return {"k": found.k, "low": found.low, "high": found.high, "curve": curve}


def _groups(
    discoverer: CategoryDiscoverer, results: list[DiscoveryResult], out: Path
) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
    """The rows of ``groups.csv``, and the contact sheets, which are written too."""
    fitted = discoverer.need_fit()
    rows = fitted.embedding[fitted.data.labels() < 0]
    own = np.array([r.group for r in results])
    doubt = np.array([r.doubtful for r in results])
    table: list[dict[str, Any]] = []
    sheets: list[tuple[Image, str]] = []
    for group, name in enumerate(discoverer.names):
        chosen = np.flatnonzero(own == group)
        kind = "known" if group < len(discoverer.known) else "new"
        row = {"group": group, "name": name, "kind": kind, "pictures": len(chosen)}
        row |= {"doubtful": int(doubt[chosen].sum()), "medoid": ""}
        if len(chosen):
            shown = chosen[representatives(rows[chosen])]
            samples = [fitted.data.unlabelled[int(i)] for i in shown]
            row["medoid"] = fitted.data.relative(samples[0])
            sheet = contact_sheet([s.image for s in samples])
            with atomic_path(out / "sheets" / f"{group:03d}-{_plain(name)}.jpg") as file:
                sheet.save(file, format="JPEG", quality=88)
            sheets.append((sheet, f"{name} ({kind}): {len(chosen)} pictures, {row['doubtful']} doubtful"))
        table.append(row)
    return table, sheets


def _plain(name: str) -> str:
    """A name fit for a file."""
    return "".join(c if c.isalnum() or c in "-_ ." else "_" for c in name)[:60]


def how_k(discoverer: CategoryDiscoverer) -> str:
    """Where K comes from, in words."""
    estimate = discoverer.fitted.estimate if discoverer.fitted else None
    if estimate is None:
        return f"{discoverer.k} groups ({discoverer.k_from})"
    span = f"{estimate.low} to {estimate.high} score alike"
    return f"{discoverer.k} groups (estimated; {span}; an estimate can be off by a half)"


def _report(
    discoverer: CategoryDiscoverer,
    title: str,
    groups: list[dict[str, Any]],
    sheets: list[tuple[Image, str]],
    twins: list[tuple[str, str]],
    evaluation: Evaluation | None,
) -> Report:
    fitted, known = discoverer.need_fit(), len(discoverer.known)
    report = Report(title, f"{len(fitted.data.unlabelled)} unlabelled pictures, {how_k(discoverer)}")
    _warnings(report, fitted, twins, discoverer)
    report.table(Table(list(groups[0]), [list(g.values()) for g in groups]), "Groups")
    filled = [g["kind"] for g in groups if g["pictures"]]
    for kind, name in (("new", "New groups"), ("known", "Known classes")):
        part = [sheet for sheet, own in zip(sheets, filled, strict=True) if own == kind]
        if part:
            report.gallery(part[:SHOWN], f"{name}: the medoid, framed, and its nearest")
    if fitted.estimate is not None:
        report.section("How many classes")
        report.figure(k_curve(fitted.estimate, known), "Score over K; the shaded K score alike")
    report.section("Co-occurrence")
    after = "features of the projector" if discoverer.head is not None else "features of the groups"
    report.text(
        f"Cosines of a sample of pictures, ordered by group: frozen features, then {after}. "
        "The lines part known from new; 0 is white, and what is below it blue."
    )
    own = fitted.verdict.groups
    report.figure(cooccurrence_figure(fitted.frozen, fitted.projected, own, known, after=after))
    _diagnosed(report, fitted, known, after)
    if evaluation is not None:
        add_evaluation(report, evaluation)
    report.section("Settings and environment")
    hyper = {"hyper": plain(discoverer.config)}
    report.facts({**_settings(discoverer.settings), **hyper, **discoverer.fitted_on})
    report.facts(environment())
    return report


def _warnings(
    report: Report, fitted: Fitted, twins: list[tuple[str, str]], discoverer: CategoryDiscoverer
) -> None:
    for error in fitted.errors[:20]:
        report.warning(f"not read: {error}")
    if len(fitted.errors) > 20:
        report.warning(f"and {len(fitted.errors) - 20} more that could not be read: see scores.json")
    if twins:
        shown = "\n".join(f"{a} = {b}" for a, b in twins[:10])
        report.warning(f"{len(twins)} pictures are there twice, byte for byte:\n{shown}")
    counts = np.bincount(fitted.data.labels()[fitted.data.labels() >= 0], minlength=len(discoverer.known))
    single = [n for n, c in zip(discoverer.known, counts, strict=True) if c == 1]
    if single:
        report.warning(f"one labelled picture alone: {', '.join(single[:10])}; its confidence is a guess")


def _diagnosed(report: Report, fitted: Fitted, known: int, after: str) -> None:
    order = sampled(fitted.verdict.groups)
    old = fitted.verdict.groups[order] < known
    rows = []
    for name, values in (("frozen features", fitted.frozen), (after, fitted.projected)):
        found = diagnostics(values[order].astype(np.float64), old)
        rows.append([name, *(f"{v:.3f}" for v in found.values())])
    columns = ["", "share below 0", "mean |cosine| known-new", "share near 0", "effective rank"]
    report.table(Table(columns, rows), f"A sample of {len(order)} pictures")


def add_evaluation(report: Report, evaluation: Evaluation) -> None:
    """Scores, where true classes are known: the headline matching beside the fixed names."""
    row = evaluation.rows[0]
    report.section("Scores")
    given = f"K {row['k_from']}, {'transductive' if row['transductive'] else 'inductive'}"
    report.text(
        f"{row['pictures']} pictures with a true class; {given}; last epoch, nothing selected on them."
    )
    columns = [c for c in HEADLINE if c in row]
    report.table(Table(columns, [[f"{row[c]:.3f}" for c in columns]]), "v2; fixed_: known classes keep names")
    report.figure(confusion(evaluation.pred, evaluation.true, evaluation.names, evaluation.classes))


def evaluation_report(discoverer: CategoryDiscoverer, evaluation: Evaluation, source: str, out: Path) -> Path:
    """Write the run folder of an evaluation; returns the report."""
    folder = RunFolder(out)
    write_csv(folder.results, evaluation.rows)
    scores = {"source": source, "protocol": evaluation.protocol, "scores": summarised(evaluation.rows)}
    folder.write_scores({**scores, "not_read": evaluation.errors, "environment": environment()})
    report = Report("Evaluation", f"{discoverer.settings.method} on {source}")
    for error in evaluation.errors:
        report.warning(f"not read: {error}")
    add_evaluation(report, evaluation)
    report.facts({**_settings(discoverer.settings), **evaluation.protocol, **environment()})
    report.save(folder.report)
    return folder.report
