"""What `FusionSegmenter.evaluate` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from wildsight.datasets.multimodal import Indexed
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.reporting import shortened
from wildsight.fusion.scoring import Case, strip_of

if TYPE_CHECKING:
    from wildsight.report import Report


@dataclass(frozen=True, kw_only=True)
class FusionEvaluation(Evaluation):
    """Scores of a segmenter on a data set: one row per condition, then ``all``; metrics in [0, 1].

    Attributes:
        share: modality -> mean contribution over the set.
        names: the scenes scored.
        scores: one number per scene: accuracy, or for saliency 1 - MAE.
        gaps: one sentence per scene of the split that lacks a modality (scored without it) or a mask (not
            scored).
        cases: the scenes segmented worst, then best.
        indexed: classes, modalities and units of the set.
    """

    share: dict[str, float]
    names: list[str]
    scores: list[float]
    gaps: list[str] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    indexed: Indexed

    group: ClassVar[str] = "condition"
    caption: ClassVar[str] = "Per condition and together; nothing was selected on test data"

    def to_dict(self) -> dict[str, Any]:
        """Also the contributions and the gaps."""
        return {**super().to_dict(), "share": self.share, "gaps": self.gaps}

    def notes(self) -> list[str]:
        """The first gaps, and how many more there are."""
        return shortened(self.gaps)

    def show(self, report: Report) -> None:
        """The mean contributions."""
        from wildsight.report.plots import bars

        if self.share:
            shares = {name: (value, 0.0) for name, value in self.share.items()}
            report.figure(bars(shares, "mean contribution of each modality"), "From the routing coefficients")

    def pictures(self) -> list[tuple[Any, str]]:
        """Inputs, truth, prediction and contributions of the worst, then the best scenes."""
        strips = [(score, *strip_of(scored, self.indexed)) for score, _, scored in self.cases]
        return [(strip, f"{score:.2f} {text}") for score, strip, text in strips]
