"""What the discoverer returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.discovery.data import CategoryData
from wildsight.discovery.estimate_k import Estimate
from wildsight.discovery.grouping import Verdict
from wildsight.errors import ConfigError, WildSightError
from wildsight.images import load_image
from wildsight.results import Result


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

    def figure(self) -> Any:
        """The picture under its group's name, as a matplotlib figure."""
        from wildsight.report.plots import side_by_side

        if self.image is None:
            raise ConfigError("the picture is not known", hint="give a file to predict")
        doubt = ", doubtful" if self.doubtful else ""
        return side_by_side([(load_image(self.image), f"{self.name} ({self.confidence:.2f}{doubt})")])


def results_of(
    files: Sequence[Path | None], found: Verdict, names: Sequence[str], known: Sequence[str], doubt: float
) -> list[DiscoveryResult]:
    """One result per picture.

    Args:
        files: the pictures.
        found: one verdict each.
        names: of the groups, the known classes first.
        known: the known classes.
        doubt: confidence below which a picture is doubtful.
    """
    results = []
    for i, file in enumerate(files):
        group, sure, margin = int(found.groups[i]), float(found.confidence[i]), float(found.margin[i])
        near = known[int(found.nearest_known[i])] if known else ""
        kind = "known" if group < len(known) else "new"
        results.append(DiscoveryResult(file, group, kind, names[group], sure, margin, near, sure < doubt))
    return results


@dataclass(frozen=True)
class Fitted:
    """What a fit learnt about the pictures it saw.

    Attributes:
        data: what was read, the unreadable pictures left out.
        embedding: [N, d] unit rows that the groups were made in.
        projected: [N, d] unit rows whose co-occurrence the loss shapes: u, the projector's output, of a
            trained method; else the embedding.
        frozen: [N, d0] unit rows of the frozen backbone.
        verdict: groups and confidence of all N.
        errors: the unreadable pictures.
        estimate: how K was estimated; None where it was given.
    """

    data: CategoryData
    embedding: np.ndarray
    projected: np.ndarray
    frozen: np.ndarray
    verdict: Verdict
    errors: list[WildSightError]
    estimate: Estimate | None


@dataclass(frozen=True)
class Evaluation:
    """Scores of a grouping.

    Attributes:
        rows: one mapping: ``all``, ``old``, ``new`` (v2), the other forms, and how K and the pictures were
            come by.
        pred: [N] group of each picture scored.
        true: [N] its class, known ones first.
        names: names of the groups.
        classes: names of the classes.
        errors: one sentence per picture that could not be read.
        protocol: split, its hash and its assumptions.
    """

    rows: list[dict[str, Any]]
    pred: np.ndarray
    true: np.ndarray
    names: list[str]
    classes: list[str]
    errors: list[str]
    protocol: dict[str, Any]
