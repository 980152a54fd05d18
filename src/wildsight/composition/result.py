"""What the recognizer returns: one result per picture, one evaluation per data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildsight.composition.calibration import Calibration
from wildsight.composition.knowledge import Knowledge, marginal
from wildsight.composition.metrics import Top
from wildsight.composition.scoring import Candidates
from wildsight.datasets.compositions import PairSample
from wildsight.errors import ConfigError
from wildsight.images import load_image
from wildsight.results import Result


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


@dataclass(frozen=True)
class Evaluation:
    """Scores of a recognizer on a data set.

    Attributes:
        rows: one mapping per world (``closed``, ``open``): metrics in [0, 1].
        top: the best candidates of each picture in the first world evaluated.
        candidates: of that world.
        bias: the calibrated bias that top-k accuracies and pictures use.
        samples: the test pictures that could be read.
        errors: one sentence per picture that could not.
        protocol: split, its hash and its assumptions.
    """

    rows: list[dict[str, Any]]
    top: Top
    candidates: Candidates
    bias: float
    samples: list[PairSample]
    errors: list[str]
    protocol: dict[str, Any]


def result_of(
    image: Path | None,
    scores: Tensor,
    candidates: Candidates,
    calibration: Calibration,
    knowledge: Knowledge,
    count: int,
) -> PairResult:
    """One picture's result.

    Args:
        image: its file. scores: [P] raw. candidates: their pairs.
        calibration: bias, temperature and limit. knowledge: the words.
        count: best pairs to list.
    """
    biased = scores + torch.where(candidates.seen, 0.0, calibration.bias)
    chance = (biased * calibration.scale).softmax(0)
    trained = (candidates.ids < torch.tensor(knowledge.trained)).all(1)
    order = biased.argsort(descending=True, stable=True)[:count].tolist()
    best = []
    for i in order:
        a, o = candidates.pairs[i]
        facts = bool(candidates.seen[i]), bool(trained[i])
        best.append(PairScore(a, o, float(biased[i]), float(chance[i]), *facts))
    known = calibration.limit is None or best[0].score >= calibration.limit
    attributes = marginal(knowledge.attributes, candidates.ids[:, 0], chance)
    objects = marginal(knowledge.objects, candidates.ids[:, 1], chance)
    return PairResult(image, tuple(best), attributes, objects, known)
