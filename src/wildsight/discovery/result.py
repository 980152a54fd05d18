"""What the discoverer returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wildsight.discovery.data import CategoryData
from wildsight.discovery.estimate_k import Estimate
from wildsight.discovery.grouping import Verdict
from wildsight.discovery.metrics import doubt_scores, score
from wildsight.errors import ConfigError, DataError, WildSightError
from wildsight.estimators.evaluation import Evaluation, short
from wildsight.images import load_image
from wildsight.results import Result, Table

if TYPE_CHECKING:
    from wildsight.report import Report

HEADLINE = ("all", "old", "new", "fixed_all", "fixed_old", "fixed_new", "sure", "sure_fixed_all")


@dataclass(frozen=True)
class DiscoveryResult(Result):
    """What the discoverer says of one picture.

    Attributes:
        image: file, or None for a picture given as pixels.
        group: number of the group; those below the number of known classes are the known classes.
        kind: ``known`` or ``new``.
        name: the known class, or ``new_000``, ``new_001``, ... in order of size.
        confidence: probability of the group, in [0, 1].
        margin: that probability less the best other group's.
        nearest_known: the known class that is most like it.
        doubtful: True where the confidence is below the discoverer's limit.
    """

    image: Path | None
    group: int
    kind: str
    name: str
    confidence: float
    margin: float
    nearest_known: str
    doubtful: bool

    def line(self) -> str:
        """The result on one line of a terminal."""
        doubt = " (doubtful)" if self.doubtful else ""
        return f"{self.image}: {self.name} {self.confidence:.2f}{doubt}"

    def row(self, path: str) -> dict[str, Any]:
        """A row of ``results.csv``; ``name`` may be edited, ``group_name`` tells whether it was."""
        return {
            "path": path,
            "group": self.group,
            "kind": self.kind,
            "name": self.name,
            "confidence": round(self.confidence, 4),
            "margin": round(self.margin, 4),
            "nearest_known": self.nearest_known,
            "doubtful": "yes" if self.doubtful else "no",
            "group_name": self.name,
        }

    def figure(self) -> Any:
        """The picture under its group's name, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        if self.image is None:
            raise ConfigError("the picture is not known", hint="give a file to predict")
        doubt = ", doubtful" if self.doubtful else ""
        return side_by_side([(load_image(self.image), f"{self.name} ({self.confidence:.2f}{doubt})")])


def results_of(
    files: Sequence[Path | None], verdicts: Verdict, names: Sequence[str], known: Sequence[str], doubt: float
) -> list[DiscoveryResult]:
    """One result per picture.

    Args:
        files: the pictures.
        verdicts: one each.
        names: of the groups, the known classes first.
        known: the known classes.
        doubt: confidence below which a picture is doubtful.
    """
    results = []
    for i, file in enumerate(files):
        group, sure = int(verdicts.groups[i]), float(verdicts.confidence[i])
        near = known[int(verdicts.nearest_known[i])] if known else ""
        kind, margin = "known" if group < len(known) else "new", float(verdicts.margin[i])
        results.append(DiscoveryResult(file, group, kind, names[group], sure, margin, near, sure < doubt))
    return results


@dataclass(frozen=True)
class Fitted:
    """What a fit learned about the pictures it saw.

    Attributes:
        data: what was read, the unreadable pictures left out.
        embedding: [N, d] unit rows that the groups were made in.
        projected: [N, d] unit rows whose co-occurrence the loss shapes: u, the projector's output, of a
            trained method; else the embedding.
        frozen: [N, d0] unit rows of the frozen backbone.
        verdict: groups and confidence of all N.
        errors: the unreadable pictures.
        estimate: how K was estimated; None where it was given.
        names: of the groups, the known classes first.
        doubt: confidence below which a picture is doubtful.
    """

    data: CategoryData
    embedding: np.ndarray
    projected: np.ndarray
    frozen: np.ndarray
    verdict: Verdict
    errors: list[WildSightError]
    estimate: Estimate | None
    names: list[str]
    doubt: float

    def results(self) -> list[DiscoveryResult]:
        """One result per unlabelled picture, in its order."""
        free = np.flatnonzero(self.data.labels() < 0)
        chosen = Verdict(*(v[free] for v in vars(self.verdict).values()))
        files = [s.image for s in self.data.unlabelled]
        return results_of(files, chosen, self.names, self.data.known, self.doubt)

    def how_k(self) -> str:
        """Where K comes from, in words."""
        if self.estimate is None:
            return f"{len(self.names)} groups (given)"
        span = f"{self.estimate.low} to {self.estimate.high} score alike"
        return f"{len(self.names)} groups (estimated; {span}; an estimate can be off by a half)"


@dataclass(frozen=True, kw_only=True)
class DiscoveryEvaluation(Evaluation):
    """Scores of a grouping: one row with ``all``, ``old``, ``new`` (v2), the other forms, and where K and the
    pictures come from.

    Attributes:
        pred: [N] group of each picture scored.
        true: [N] its class, known ones first.
        names: names of the groups.
        classes: names of the classes.
    """

    pred: np.ndarray
    true: np.ndarray
    names: list[str]
    classes: list[str]

    group: ClassVar[str] = "group"
    caption: ClassVar[str] = "Every score"

    def table(self) -> Table:
        """One line per score."""
        return Table(["score", "value"], [[name, short(value)] for name, value in self.overall.items()])

    def show(self, report: Report) -> None:
        """The headline matching beside the fixed names, and who went where."""
        from wildsight.discovery.contact_sheets import confusion

        row = self.overall
        report.section("Scores")
        given = f"K {row['k_from']}, {'transductive' if row['transductive'] else 'inductive'}"
        report.text(
            f"{row['pictures']} pictures with a true class; {given}; last epoch, nothing selected on them."
        )
        columns = [c for c in HEADLINE if c in row]
        cells = [short(row[c], 3) for c in columns]
        report.table(Table(columns, [cells]), "v2; fixed_: known classes keep names")
        report.figure(confusion(self.pred, self.true, self.names, self.classes))


def evaluated(
    data: CategoryData,
    groups: np.ndarray,
    doubtful: np.ndarray,
    names: list[str],
    facts: dict[str, Any],
    errors: list[str],
) -> DiscoveryEvaluation:
    """The scores of the unlabelled pictures whose class is known for scoring.

    Args:
        data: the pictures.
        groups: [N] their groups.
        doubtful: [N] whether they are doubtful.
        names: of the groups.
        facts: added to the row.
        errors: one sentence per picture left out.

    Raises:
        DataError: no unlabelled picture with a true class.
    """
    true, known = data.truths(), len(data.known)
    scored = (data.labels() < 0) & (true >= 0)
    if not scored.any():
        raise DataError("no unlabelled picture with a true class", where=data.root, hint="add truth.csv")
    row: dict[str, Any] = dict(score(groups[scored], true[scored], known))
    row |= doubt_scores(groups[scored], true[scored], ~doubtful[scored], known)
    return DiscoveryEvaluation(
        rows=[{**row, **facts, "pictures": int(scored.sum())}],
        errors=errors,
        protocol=dict(data.protocol),
        pred=groups[scored],
        true=true[scored],
        names=names,
        classes=[*data.known, *data.new],
    )
