"""What `SpatialGrounder.evaluate` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL.Image import Image

from wildsight.estimators.evaluation import Evaluation
from wildsight.spatial.boxes import Box
from wildsight.spatial.drawing import from_above, on_picture, side_by_side
from wildsight.spatial.samples import SpatialSample

HEIGHT = 200


@dataclass(frozen=True, kw_only=True)
class SpatialEvaluation(Evaluation):
    """Scores of a grounder on a data set: one row per group, then ``all``; metres, radians, shares.

    Attributes:
        samples: the questions scored.
        scores: IoU of each, a missing box counting 0; for a question about nothing 1 if it was refused.
        found: the boxes given to each question.
    """

    samples: Sequence[SpatialSample]
    scores: list[float]
    found: list[tuple[Box, ...]]

    group: ClassVar[str] = "group"
    caption: ClassVar[str] = "Per group and together; metres, radians, shares"

    @property
    def names(self) -> list[str]:
        """Of the questions scored."""
        return [s.name for s in self.samples]

    def pictures(self, each: int = 4) -> list[tuple[Any, str]]:
        """The questions answered worst, then best: truth in green; the picture and from above."""
        order = sorted(range(len(self.samples)), key=lambda i: self.scores[i])
        return [self._strip(i) for i in dict.fromkeys([*order[:each], *order[-each:]])]

    def at_ranks(self, shares: Sequence[float] = (0.1, 0.5, 0.9)) -> list[tuple[Image, str]]:
        """Questions with a box, at shares of their order from worst to best."""
        with_box = [i for i, s in enumerate(self.samples) if s.targets]
        order = sorted(with_box, key=lambda i: self.scores[i])
        return [self._strip(order[int(share * (len(order) - 1))]) for share in shares if order]

    def _strip(self, i: int) -> tuple[Image, str]:
        """Question number i: picture and view from above, and a caption."""
        sample, boxes = self.samples[i], self.found[i]
        drawn = on_picture(sample.picture(), sample.camera.matrix, boxes, sample.targets)
        above = from_above(boxes, sample.targets, sample.others)
        caption = f"IoU {self.scores[i]:.2f}, {sample.group}: {sample.expression}"
        return side_by_side([drawn, above], HEIGHT), caption
