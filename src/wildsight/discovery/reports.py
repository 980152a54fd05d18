"""What a run of this task leaves on disk: tables, contact sheets, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from wildsight.discovery.contact_sheets import (
    SIDE,
    contact_sheet,
    cooccurrence_figure,
    k_curve,
    representatives,
    sampled,
)
from wildsight.discovery.result import DiscoveryEvaluation, DiscoveryResult, Fitted
from wildsight.discovery.settings import DiscovererSettings
from wildsight.discovery.snmf import diagnostics
from wildsight.discovery.sorting import duplicates
from wildsight.estimators.predictions import Gallery, Predictions, write_all
from wildsight.files import atomic_path
from wildsight.report import Report
from wildsight.results import RunFolder, Table, environment, summarised, write_csv

SHOWN = 200
"""Contact sheets in the report at most; all of them are in the folder."""
EACH = 9
"""Pictures on a contact sheet of a prediction."""


@dataclass(frozen=True)
class RunFacts:
    """What a run's report says beside the pictures.

    Attributes:
        settings: of the discoverer.
        hyper: every hyper-parameter of the method.
        fitted_on: source, K and protocol.
        trained: whether the method trains a head.
        evaluation: scores, where true classes are known.
    """

    settings: DiscovererSettings
    hyper: Mapping[str, Any]
    fitted_on: Mapping[str, Any]
    trained: bool
    evaluation: DiscoveryEvaluation | None

    @property
    def after(self) -> str:
        """What the last features of the pictures are."""
        return "features of the projector" if self.trained else "features of the groups"

    def shown(self) -> dict[str, Any]:
        """The settings in short."""
        views, space = self.settings.views, self.settings.space
        return {
            "method": self.settings.method,
            "backbone": self.settings.backbone,
            "image_size": views.image_size,
            "space": f"{space.components} components, whitening {space.whiten}",
            "doubt": self.settings.doubt,
            "seed": self.settings.seed,
        }


def write_run(fitted: Fitted, facts: RunFacts, out: Path, title: str) -> Path:
    """Write the run folder of a fit: tables, sheets, scores, report.

    Args:
        fitted: what the fit saw.
        facts: settings and scores.
        out: the run's folder.
        title: heading of the report.

    Returns:
        The report.
    """
    folder, data, results = RunFolder(out), fitted.data, fitted.results()
    for old in (out / "sheets").glob("[0-9][0-9][0-9]-*.jpg"):
        old.unlink()
    rows = [r.row(data.relative(s)) for r, s in zip(results, data.unlabelled, strict=True)]
    groups, sheets = _groups(fitted, results, out)
    write_csv(folder.results, rows)
    write_csv(out / "groups.csv", groups)
    twins = [(str(a), str(b)) for a, b in duplicates([s.image for s in data.samples])]
    scores = {
        "root": str(data.root.absolute()),
        "known": list(data.known),
        **facts.shown(),
        "hyper": dict(facts.hyper),
        **facts.fitted_on,
        "groups": groups,
        "doubtful": sum(r.doubtful for r in results),
        "k_curve": _curve(fitted),
        "scores": summarised(facts.evaluation.rows) if facts.evaluation else [],
        "duplicates": twins,
        "not_read": [str(e) for e in fitted.errors],
        "environment": environment(),
    }
    folder.write_scores(scores)
    report = _report(fitted, facts, title, groups, sheets, twins)
    report.save(folder.report)
    return folder.report


def _curve(fitted: Fitted) -> dict[str, Any]:
    if fitted.estimate is None:
        return {}
    estimate = fitted.estimate
    curve = {str(k): list(v) for k, v in estimate.curve.items()}
    return {"k": estimate.k, "low": estimate.low, "high": estimate.high, "curve": curve}


def _groups(
    fitted: Fitted, results: Sequence[DiscoveryResult], out: Path
) -> tuple[list[dict[str, Any]], list[tuple[Image, str]]]:
    """The rows of ``groups.csv``, and the contact sheets, which are written too."""
    rows = fitted.embedding[fitted.data.labels() < 0]
    groups = np.array([r.group for r in results])
    doubt = np.array([r.doubtful for r in results])
    table: list[dict[str, Any]] = []
    sheets: list[tuple[Image, str]] = []
    for group, name in enumerate(fitted.names):
        chosen = np.flatnonzero(groups == group)
        kind = "known" if group < len(fitted.data.known) else "new"
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


def _report(
    fitted: Fitted,
    facts: RunFacts,
    title: str,
    groups: list[dict[str, Any]],
    sheets: list[tuple[Image, str]],
    twins: list[tuple[str, str]],
) -> Report:
    known, after = len(fitted.data.known), facts.after
    report = Report(title, f"{len(fitted.data.unlabelled)} unlabelled pictures, {fitted.how_k()}")
    _warnings(report, fitted, twins)
    report.table(Table(list(groups[0]), [list(g.values()) for g in groups]), "Groups")
    filled = [g["kind"] for g in groups if g["pictures"]]
    for kind, name in (("new", "New groups"), ("known", "Known classes")):
        part = [sheet for sheet, other in zip(sheets, filled, strict=True) if other == kind]
        if part:
            report.gallery(part[:SHOWN], f"{name}: the medoid, framed, and its nearest")
    if fitted.estimate is not None:
        report.section("How many classes")
        report.figure(k_curve(fitted.estimate, known), "Score over K; the shaded K score alike")
    report.section("Co-occurrence")
    report.text(
        f"Cosines of a sample of pictures, ordered by group: frozen features, then {after}. "
        "The lines part known from new; 0 is white, and what is below it blue."
    )
    groups_of = fitted.verdict.groups
    report.figure(cooccurrence_figure(fitted.frozen, fitted.projected, groups_of, known, after=after))
    _diagnosed(report, fitted, known, after)
    if facts.evaluation is not None:
        facts.evaluation.show(report)
    report.section("Settings and environment")
    report.facts({**facts.shown(), "hyper": dict(facts.hyper), **facts.fitted_on})
    report.facts(environment())
    return report


def _warnings(report: Report, fitted: Fitted, twins: list[tuple[str, str]]) -> None:
    for error in fitted.errors[:20]:
        report.warning(f"not read: {error}")
    if len(fitted.errors) > 20:
        report.warning(f"and {len(fitted.errors) - 20} more that could not be read: see scores.json")
    if twins:
        shown = "\n".join(f"{a} = {b}" for a, b in twins[:10])
        report.warning(f"{len(twins)} pictures are there twice, byte for byte:\n{shown}")
    known = fitted.data.known
    counts = np.bincount(fitted.data.labels()[fitted.data.labels() >= 0], minlength=len(known))
    single = [n for n, c in zip(known, counts, strict=True) if c == 1]
    if single:
        report.warning(f"one labelled picture alone: {', '.join(single[:10])}; its confidence is a guess")


def _diagnosed(report: Report, fitted: Fitted, known: int, after: str) -> None:
    order = sampled(fitted.verdict.groups)
    old = fitted.verdict.groups[order] < known
    rows = []
    for name, values in (("frozen features", fitted.frozen), (after, fitted.projected)):
        numbers = diagnostics(values[order].astype(np.float64), old)
        rows.append([name, *(f"{v:.3f}" for v in numbers.values())])
    columns = ["", "share below 0", "mean |cosine| known-new", "share near 0", "effective rank"]
    report.table(Table(columns, rows), f"A sample of {len(order)} pictures")


@dataclass
class _Group:
    """What the report says of a group: its kind, its size and its surest pictures."""

    kind: str
    pictures: Gallery
    size: int = 0
    doubtful: int = 0


class DiscoveryPredictions(Predictions[DiscoveryResult]):
    """A row per picture, a sheet per group."""

    title, caption = "Pictures by group", "The surest pictures of each group, the surest framed"
    listed = False

    def __init__(self, out: str | Path, **options: Any) -> None:
        super().__init__(out, **options)
        self.groups: dict[str, _Group] = {}

    def rows(self, result: DiscoveryResult) -> list[Mapping[str, Any]]:
        """The group and how sure it is."""
        return [result.row(str(result.image))]

    @property
    def side(self) -> int | None:
        """As large as a thumbnail needs it."""
        return 2 * SIDE

    def draw(self, number: int, result: DiscoveryResult, picture: Image | None) -> None:  # noqa: ARG002
        """Keep the picture where it is one of the surest of its group."""
        group = self.groups.setdefault(result.name, _Group(result.kind, Gallery(EACH)))
        group.size, group.doubtful = group.size + 1, group.doubtful + result.doubtful
        if result.image is not None and group.pictures.wants(-result.confidence):
            shown = self.picture_of(result.image, picture)
            if shown is not None:
                group.pictures.add(-result.confidence, shown, "")

    def facts(self) -> dict[str, Any]:
        """How many there are; the rows are in ``results.csv``."""
        return {"pictures": self.count}

    def show(self, report: Report) -> None:
        """A sheet per group."""
        sheets = [
            (
                contact_sheet([picture for picture, _ in group.pictures.pictures()]),
                f"{name} ({group.kind}): {group.size} pictures, {group.doubtful} doubtful",
            )
            for name, group in sorted(self.groups.items())[:SHOWN]
        ]
        if sheets:
            report.gallery(sheets, self.caption)


def write_predictions(results: Sequence[DiscoveryResult], errors: Sequence[str], out: Path) -> Path:
    """Write the folder of a prediction: ``results.csv``, ``scores.json`` and a sheet per group.

    Args:
        results: one per readable picture.
        errors: one sentence per picture that could not be read.
        out: the folder.

    Returns:
        The report.

    Raises:
        DataError: the folder cannot be written.
    """
    return write_all(DiscoveryPredictions(out), results, errors)
