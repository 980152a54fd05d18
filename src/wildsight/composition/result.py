"""What the recognizer returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wildsight.composition.calibration import Calibration
from wildsight.composition.metrics import Top, predicted
from wildsight.composition.scoring import Candidates
from wildsight.composition.vocabulary import Vocabulary, marginal
from wildsight.datasets.compositions import PairSample
from wildsight.errors import ConfigError
from wildsight.estimators.evaluation import Evaluation, short
from wildsight.images import load_image
from wildsight.results import Result, Table

if TYPE_CHECKING:
    from wildsight.report import Report


@dataclass(frozen=True)
class PairScore:
    """One candidate.

    Attributes:
        attribute, object: its words.
        score: raw score plus the bias where it was never trained; comparable within one recognizer only.
        probability: among the candidates, in [0, 1].
        seen: it was trained.
        calibrated: both its words were trained; a new word's score is not on the same footing.
    """

    attribute: str
    object: str
    score: float
    probability: float
    seen: bool
    calibrated: bool = True

    @property
    def text(self) -> str:
        """``wet cat``."""
        return f"{self.attribute} {self.object}"


@dataclass(frozen=True)
class PairResult(Result):
    """What the recognizer says of one picture.

    Attributes:
        image: file, or None for a picture given as pixels.
        pairs: the best candidates, best first.
        attributes: name and probability of each attribute (summed over the candidates), best first.
        objects: the same for objects.
        known: False when the best score lies below the limit: none of these.
    """

    image: Path | None
    pairs: tuple[PairScore, ...]
    attributes: tuple[tuple[str, float], ...]
    objects: tuple[tuple[str, float], ...]
    known: bool

    @property
    def attribute(self) -> str:
        """Attribute of the best pair."""
        return self.pairs[0].attribute

    @property
    def object(self) -> str:
        """Object of the best pair."""
        return self.pairs[0].object

    @property
    def probability(self) -> float:
        """Probability of the best pair among the candidates, in [0, 1]."""
        return self.pairs[0].probability

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the best pair flat, then the lists."""
        first = {"attribute": self.attribute, "object": self.object, "probability": self.probability}
        return {"image": str(self.image) if self.image else None, **first, **_rest(super().to_dict())}

    def line(self) -> str:
        """The result on one line of a terminal."""
        doubt = "" if self.known else " (none of these?)"
        return f"{self.image}: {self.pairs[0].text} {self.probability:.3f}{doubt}"

    def figure(self) -> Any:
        """The picture and its best pairs, as a matplotlib figure."""
        from wildsight.report.plots import new_figure

        if self.image is None:
            raise ConfigError("the picture is not known", hint="predict from a file")
        figure, axes = new_figure(2, (7.0, 3.2))
        axes[0].imshow(load_image(self.image))
        axes[0].set_axis_off()
        axes[1].barh([p.text for p in self.pairs], [p.probability for p in self.pairs])
        axes[1].invert_yaxis()
        axes[1].set_xlabel("probability")
        return figure


def _rest(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "image"}


@dataclass(frozen=True, kw_only=True)
class CompositionEvaluation(Evaluation):
    """Scores of a recognizer on a data set: one row per world (``closed``, ``open``), metrics in [0, 1].

    Attributes:
        top: the best candidates of each picture in the closed world.
        candidates: of that world.
        bias: the calibrated bias that top-k accuracies and pictures use.
        samples: the pictures that could be read.
    """

    top: Top
    candidates: Candidates
    bias: float
    samples: list[PairSample]

    group: ClassVar[str] = "world"
    caption: ClassVar[str] = "`exact` protocol, and `field_*` as published figures use"

    @property
    def overall(self) -> dict[str, Any]:
        """The row of the closed world."""
        return self.rows[0]

    def table(self) -> Table:
        """Metrics down, worlds across."""
        names = [n for n in self.rows[0] if n != self.group]
        body = [[n, *(short(row.get(n, "-")) for row in self.rows)] for n in names]
        return Table(["metric", *(str(row[self.group]) for row in self.rows)], body)

    def show(self, report: Report) -> None:
        """The seen-unseen curve and the confused pairs."""
        from wildsight.composition.figures import CONFUSED, confusion_figure, seen_unseen_figure

        point = (self.rows[0]["seen"], self.rows[0]["unseen"])
        report.section("Seen against unseen accuracy")
        figure = seen_unseen_figure(self.top, self.bias, point)
        report.figure(figure, "Each point is one bias of the unseen pairs")
        report.section("Confused pairs")
        figure = confusion_figure(self.top, self.bias, self.candidates.pairs, self.candidates.seen.tolist())
        report.figure(figure, f"The {CONFUSED} most frequent pairs, rows are true")

    def pictures(self, count: int = 12) -> list[tuple[Any, str]]:
        """Pictures whose true pair fell furthest behind, then those that won by most."""
        shift = np.where(self.top.truth_seen, 0.0, self.bias)
        best = np.maximum(self.top.seen[:, 0], self.top.unseen[:, 0] + self.bias)
        margin = self.top.truth_score + shift - best
        order = np.argsort(margin, kind="stable")
        right = order[margin[order] >= 0]
        answers = predicted(self.top, self.bias, 3)
        shown = []
        for i in [*order[: count // 2].tolist(), *right[-(count // 2) :].tolist()]:
            words = [" ".join(self.candidates.pairs[j]) for j in answers[i] if j >= 0]
            sample = self.samples[i]
            kind = "seen" if self.top.truth_seen[i] else "unseen"
            caption = f"{sample.attribute} {sample.object} ({kind}): {', '.join(words)}"
            shown.append((load_image(sample.image), caption))
        return shown


def result_of(
    image: Path | None,
    scores: Tensor,
    candidates: Candidates,
    calibration: Calibration,
    vocabulary: Vocabulary,
    count: int,
) -> PairResult:
    """One picture's result.

    Args:
        image: its file. scores: [P] raw. candidates: their pairs.
        calibration: bias, temperature and limit. vocabulary: the words.
        count: best pairs to list.
    """
    biased = scores + torch.where(candidates.seen, 0.0, calibration.bias)
    chance = (biased * calibration.scale).softmax(0)
    trained = (candidates.ids < torch.tensor(vocabulary.trained)).all(1)
    order = biased.argsort(descending=True, stable=True)[:count].tolist()
    best = []
    for i in order:
        a, o = candidates.pairs[i]
        facts = bool(candidates.seen[i]), bool(trained[i])
        best.append(PairScore(a, o, float(biased[i]), float(chance[i]), *facts))
    known = calibration.limit is None or best[0].score >= calibration.limit
    attributes = marginal(vocabulary.attributes, candidates.ids[:, 0], chance)
    objects = marginal(vocabulary.objects, candidates.ids[:, 1], chance)
    return PairResult(image, tuple(best), attributes, objects, known)
